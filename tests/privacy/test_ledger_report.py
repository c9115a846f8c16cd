"""What a ledger adds up to, for what ran and for what was planned; by dp-accounting directly."""

import json

import pytest

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, SampledGaussian
from tf_mtl_privacy.privacy.ledger import Ledger, LedgerHeader, read_ledger
from tf_mtl_privacy.privacy.ledger_report import ledger_report

DELTA, Q = 1e-5, 0.1
NOISE = {"discriminator": 3.0, "adversarial": 4.0}
NONE = {"epsilon_pld": None, "epsilon_rdp": None}


def header(images=0, **mechanism):
    phases = {
        name: SampledGaussian(noise, Q, rows=640, **mechanism) for name, noise in NOISE.items()
    }
    return LedgerHeader(phases, l2_norm_clip=1.0, max_images_per_person=images)


def report_of(folder, steps, planned=None, head=None, void=""):
    folder.mkdir(exist_ok=True)
    with Ledger(folder, head or header(), void=void) as ledger:
        for name, count in steps.items():
            ledger.reserve(name, count)
        report = ledger_report(ledger.state, DELTA, planned, planned or ())
    json.dumps(report, allow_nan=False)
    assert report == ledger_report(read_ledger(folder), DELTA, planned, planned or ())
    return report


def directly(steps):
    return reference_epsilon([(NOISE[name], Q, count) for name, count in steps.items()], DELTA)


def test_the_report(tmp_path):
    report = report_of(tmp_path, {"discriminator": 20})
    assert report["epsilon_pld"] == pytest.approx(directly({"discriminator": 20}), rel=2e-3)
    assert report["phases"]["discriminator"]["epsilon_pld"] == report["epsilon_pld"]
    assert report["as_run"] == {name: report[name] for name in NONE}
    assert report["phases"]["adversarial"]["epsilon_rdp"] == 0 and report["person"] == NONE
    assert (report["steps"], report["void"], report["sampling"]) == (20, False, "poisson")
    assert report["adjacency"] == "add_or_remove_one" and report["void_reason"] is None


def test_a_phase_that_ended_early_counts_as_planned(tmp_path):
    ran, planned = {"discriminator": 20, "adversarial": 30}, {"discriminator": 90}
    report = report_of(tmp_path, ran, planned)
    assert report["epsilon_pld"] == pytest.approx(directly(ran | planned), rel=2e-3)
    assert report["as_run"]["epsilon_pld"] == pytest.approx(directly(ran), rel=2e-3)
    phase = report["phases"]["discriminator"]
    assert phase["epsilon_pld"] == pytest.approx(directly(planned), rel=2e-3)
    assert (phase["steps"], report["steps"]) == (20, 50), "these are the updates that ran"
    other = report["phases"]["adversarial"]
    assert other["epsilon_pld"] == pytest.approx(directly({"adversarial": 30}), rel=2e-3)


def test_a_plan_that_was_overrun_takes_nothing_back(tmp_path):
    # After kills more is counted than was planned.
    ran = {"discriminator": 20, "adversarial": 30}
    report = report_of(tmp_path, ran, {"discriminator": 12})
    assert report["epsilon_pld"] == pytest.approx(directly(ran), rel=2e-3)
    assert report["as_run"]["epsilon_pld"] == report["epsilon_pld"]


def killed_run(folder):
    """A ledger of three processes; the first two were killed with 4 and 6 updates reserved."""
    head = header()
    with Ledger(folder, head) as ledger:
        ledger.reserve("discriminator", 4)
        ledger.settle("discriminator", 4)
        ledger.reserve("discriminator", 4)
    with Ledger(folder, head, checkpoint={"discriminator": 4}) as ledger:
        ledger.reserve("discriminator", 6)
        ledger.settle("discriminator", 7)
        ledger.reserve("discriminator", 2)
        ledger.settle("discriminator", 8)
        ledger.reserve("adversarial", 5)
    with Ledger(folder, head, checkpoint={"discriminator": 8}) as ledger:
        ledger.reserve("adversarial", 5)
        ledger.settle("adversarial", 5)
        return ledger.state


def test_after_kills_an_early_end_counts_the_plan_and_a_block_for_each_of_them(tmp_path):
    state, planned = killed_run(tmp_path), {"discriminator": 20, "adversarial": 30}
    # Hand-worked: 4 + 4 before the first kill, 4 after it; 5 lost and 5 kept in the other phase.
    ran = {"discriminator": 12, "adversarial": 10}
    assert {name: state.spent(name) for name in ran} == ran
    # Which phase loses a block to a kill depends on where the first one ended: any may lose all.
    assert state.kill_allowance == 4 + 6
    report = ledger_report(state, DELTA, planned, ["discriminator"])
    caps = {name: count + 10 for name, count in planned.items()}
    assert report["epsilon_pld"] == pytest.approx(directly(caps), rel=2e-3)
    assert report["as_run"]["epsilon_pld"] == pytest.approx(directly(ran), rel=2e-3)
    # Without an early end the counts follow from the kills alone.
    assert ledger_report(state, DELTA, planned)["epsilon_pld"] == report["as_run"]["epsilon_pld"]


def test_an_interruption_that_loses_nothing_is_no_kill(tmp_path):
    for start in (0, 4):
        with Ledger(tmp_path, header(), checkpoint={"discriminator": start}) as ledger:
            ledger.reserve("discriminator", 8)
            ledger.settle("discriminator", start + 4)
            state = ledger.state
    assert state.kill_allowance == 0
    report = ledger_report(state, DELTA, {"discriminator": 20, "adversarial": 0}, ["discriminator"])
    assert report["epsilon_pld"] == pytest.approx(directly({"discriminator": 20}), rel=2e-3)


def test_a_person_s_epsilon_is_that_of_the_plan(tmp_path):
    early = report_of(tmp_path / "a", {"discriminator": 5}, {"discriminator": 40}, header(2))
    whole = report_of(tmp_path / "b", {"discriminator": 40}, None, header(2))
    assert early["person"] == whole["person"] and early["person"]["epsilon_pld"] is not None


def test_planned_passes_of_shuffled_epochs(tmp_path):
    # 10 steps an epoch: 15 that ran touched two epochs, 40 would have been four.
    shuffled = header(sampling=SHUFFLED_EPOCHS)
    report = report_of(tmp_path, {"discriminator": 15}, {"discriminator": 40}, shuffled)
    for found, passes in ((report, 4), (report["as_run"], 2)):
        expected = reference_epsilon([(3.0, 1.0, passes)], DELTA)
        assert found["epsilon_pld"] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("planned", [None, {"discriminator": 90}])
def test_a_void_run_has_no_epsilon_at_all(tmp_path, planned):
    report = report_of(tmp_path, {"discriminator": 20}, planned, header(2), void="a test key")
    assert (report["void"], report["void_reason"], report["steps"]) == (True, "a test key", 20)
    everywhere = [report, report["as_run"], report["person"], *report["phases"].values()]
    for found in everywhere:
        assert {name: found[name] for name in NONE} == NONE
