"""The ledger counts updates before they run, survives kills, and reports the epsilon spent."""

import contextlib
import json
import math
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.privacy.accounting.calibration import affordable_together
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.ledger import (
    LEDGER_FILE,
    Ledger,
    LedgerHeader,
    ledger_report,
    read_ledger,
)

DELTA = 1e-5
PRE, ADV = SampledGaussian(3.0, 0.1, rows=640), SampledGaussian(4.0, 0.1, rows=640)
HEADER = LedgerHeader({"discriminator": PRE, "adversarial": ADV}, l2_norm_clip=1.0)


def lines(folder):
    return (folder / LEDGER_FILE).read_text().splitlines()


def test_new_ledger_is_private_and_empty(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        assert ledger.spent("discriminator") == ledger.covered("adversarial") == 0
        assert ledger.epsilon(DELTA) == 0 and ledger.void == ""
        assert len(ledger.run_id) == 32
    assert (tmp_path / LEDGER_FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [LEDGER_FILE]
    assert read_ledger(tmp_path).header == HEADER


def test_reserved_updates_are_on_disk_before_they_run(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("discriminator", 50)
        assert read_ledger(tmp_path).spent("discriminator") == 50
        assert ledger.covered("discriminator") == 50


def test_continued_run_counts_unsettled_updates(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("discriminator", 50)
        run_id = ledger.run_id
    # Killed at some point up to 50; the last checkpoint was at 30.
    with Ledger(tmp_path, HEADER, checkpoint={"discriminator": 30}, run_id=run_id) as ledger:
        assert (ledger.spent("discriminator"), ledger.covered("discriminator")) == (50, 30)
        ledger.reserve("discriminator", 50)
        assert (ledger.spent("discriminator"), ledger.covered("discriminator")) == (100, 80)
        ledger.settle("discriminator", 45)
        # 15 ran here, up to 50 before.
        assert (ledger.spent("discriminator"), ledger.covered("discriminator")) == (65, 45)
        ledger.reserve("adversarial", 5)
    assert read_ledger(tmp_path).spent("discriminator") == 65
    assert read_ledger(tmp_path).spent("adversarial") == 5


def test_settle_never_returns_updates_that_ran(tmp_path):
    with Ledger(tmp_path, HEADER, checkpoint={}) as ledger:
        ledger.reserve("discriminator", 20)
        ledger.settle("discriminator", 12)
        # A process that restored an older checkpoint without reopening the ledger.
        with pytest.raises(RunError, match="reopen the ledger"):
            ledger.settle("discriminator", 11)
        with pytest.raises(RunError, match="3 updates of discriminator ran without"):
            ledger.settle("discriminator", 15)
        assert read_ledger(tmp_path).spent("discriminator") == 15


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_count_is_never_below_and_at_most_a_block_above_per_process(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("ledger")
    block = data.draw(st.integers(1, 9), label="block")
    ran, checkpoint = 0, 0
    for process in range(1, 1 + data.draw(st.integers(1, 5), label="processes")):
        with Ledger(folder, HEADER, checkpoint={"adversarial": checkpoint}) as ledger:
            step = checkpoint
            for _ in range(data.draw(st.integers(0, 25), label="updates")):
                if step == ledger.covered("adversarial"):
                    ledger.reserve("adversarial", block)
                step, ran = step + 1, ran + 1
                if data.draw(st.booleans(), label="checkpoint"):
                    checkpoint = step
                    if data.draw(st.booleans(), label="settled before the kill"):
                        ledger.settle("adversarial", checkpoint)
                assert ran <= ledger.spent("adversarial") <= ran + block * process
        assert ran <= read_ledger(folder).spent("adversarial") <= ran + block * process


@pytest.mark.parametrize("torn", [b'{"kind": "reser', b"\0" * 9, b'{"kind": "reserve"}'])
def test_torn_last_line_is_cut_off(tmp_path, torn):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 7)
    with open(tmp_path / LEDGER_FILE, "ab") as file:
        file.write(torn)
    assert read_ledger(tmp_path).spent("adversarial") == 7
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 3)
    assert read_ledger(tmp_path).spent("adversarial") == 10
    assert all(isinstance(json.loads(line), dict) for line in lines(tmp_path))


@pytest.mark.parametrize(
    "damage", ["not json", "[]", '{"kind": "gift"}', '{"kind": "reserve"}', '{"count": -3}']
)
def test_damaged_ledger_is_refused(tmp_path, damage):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 7)
    path = tmp_path / LEDGER_FILE
    path.write_text("\n".join([*lines(tmp_path), damage, lines(tmp_path)[-1]]) + "\n")
    with pytest.raises(RunError, match=r"damaged|unknown record"):
        Ledger(tmp_path, HEADER)
    negative = {"kind": "reserve", "phase": "adversarial", "count": -3}
    path.write_text("\n".join([*path.read_text().splitlines()[:3], json.dumps(negative)]) + "\n")
    with pytest.raises(RunError, match="damaged"):
        read_ledger(tmp_path)


def test_file_that_is_not_a_ledger_is_refused(tmp_path):
    (tmp_path / LEDGER_FILE).write_text('{"kind": "header", "version": 99}\n')
    with pytest.raises(RunError, match="not a ledger of version 2"):
        Ledger(tmp_path, HEADER)
    (tmp_path / LEDGER_FILE).write_text("")
    with pytest.raises(RunError, match="not a ledger"):
        Ledger(tmp_path, HEADER)


def test_ledger_of_cut_noise_is_void(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 7)
    path = tmp_path / LEDGER_FILE
    older = [json.loads(line) for line in lines(tmp_path)]
    older[0]["version"] = 1
    path.write_text("".join(json.dumps(line) + "\n" for line in older))
    assert "noise that is cut" in read_ledger(tmp_path).void
    with Ledger(tmp_path, HEADER) as ledger:
        assert "noise that is cut" in ledger.void and ledger.spent("adversarial") == 7


def test_ledger_with_another_header_is_refused(tmp_path):
    Ledger(tmp_path, HEADER).close()
    changes = {
        "l2_norm_clip=2.0: this run's ledger was started with 1.0": {"l2_norm_clip": 2.0},
        "max_images_per_person=3": {"max_images_per_person": 3},
        "phases.adversarial.noise_multiplier=2.0": {
            "phases": {"discriminator": PRE, "adversarial": SampledGaussian(2.0, 0.1, rows=640)}
        },
        "phases.adversarial": {"phases": {"discriminator": PRE}},
    }
    for words, change in changes.items():
        values = {"phases": HEADER.phases, "l2_norm_clip": 1.0} | change
        with pytest.raises(UsageError, match=words):
            Ledger(tmp_path, LedgerHeader(**values))
    almost = SampledGaussian(4.0 * (1 + 1e-12), 0.1, rows=640)
    Ledger(tmp_path, LedgerHeader({"discriminator": PRE, "adversarial": almost}, 1.0)).close()


def test_checkpoint_without_its_ledger_is_refused(tmp_path):
    with pytest.raises(RunError, match="no such file, but the checkpoint has 3 private updates"):
        Ledger(tmp_path, HEADER, checkpoint={"adversarial": 3})
    assert not (tmp_path / LEDGER_FILE).exists()
    with Ledger(tmp_path, HEADER, checkpoint={"adversarial": 0}) as ledger:
        ledger.reserve("adversarial", 5)
    with pytest.raises(RunError, match="5 updates of adversarial, but the checkpoint has 6"):
        Ledger(tmp_path, HEADER, checkpoint={"adversarial": 6})
    with pytest.raises(RunError, match="another run"):
        Ledger(tmp_path, HEADER, checkpoint={"adversarial": 5}, run_id="0" * 32)
    with pytest.raises(RunError, match="unknown phases"):
        Ledger(tmp_path, HEADER, checkpoint={"restorer": 5})
    with pytest.raises(RunError, match="cannot read the ledger"):
        read_ledger(tmp_path / "nowhere")


def test_second_process_is_refused(tmp_path):
    with Ledger(tmp_path, HEADER), pytest.raises(RunError, match="in use by another process"):
        Ledger(tmp_path, HEADER)
    Ledger(tmp_path, HEADER).close()


def test_refused_ledger_is_not_left_locked(tmp_path):
    Ledger(tmp_path, HEADER).close()
    with contextlib.suppress(RunError):
        Ledger(tmp_path, HEADER, checkpoint={"adversarial": 6})
    Ledger(tmp_path, HEADER).close()


def test_full_disk_stops_updates(tmp_path, monkeypatch):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("adversarial", 5)

        def fail(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(RunError, match="No space left"):
            ledger.reserve("adversarial", 5)
        monkeypatch.undo()
        assert ledger.covered("adversarial") == 5
        with pytest.raises(RunError, match="restart the run"):
            ledger.reserve("adversarial", 5)
    # It may be on disk or not: then it counts, though it did not run.
    assert read_ledger(tmp_path).spent("adversarial") in (5, 10)


def test_void_process_voids_the_run(tmp_path):
    Ledger(tmp_path, HEADER, void="a test key").close()
    with Ledger(tmp_path, HEADER) as ledger:
        assert ledger.void == "a test key"
    assert read_ledger(tmp_path).void == "a test key"


def test_ledger_epsilon_of_a_phase_and_of_the_run(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        ledger.reserve("discriminator", 20)
        ledger.reserve("adversarial", 30)
        both = [MechanismRun(PRE, 20), MechanismRun(ADV, 30)]
        assert ledger.epsilon(DELTA) == epsilon(both, DELTA)
        assert ledger.epsilon(DELTA, "rdp", phase="adversarial") == epsilon(both[1:], DELTA, "rdp")
        assert ledger.epsilon(DELTA, person=True) == math.inf
        assert read_ledger(tmp_path).phases() == dict(zip(HEADER.phases, both, strict=True))
    bounded = LedgerHeader({"adversarial": ADV}, 1.0, max_images_per_person=2)
    (tmp_path / LEDGER_FILE).unlink()
    with Ledger(tmp_path, bounded) as ledger:
        ledger.reserve("adversarial", 30)
        person = ledger.epsilon(DELTA, "rdp", person=True)
        assert ledger.epsilon(DELTA, "rdp") < person < math.inf


def test_affordable_steps_never_overspend_the_budget(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        target, done = 1.0, 0

        def affordable(phase, count, within=("adversarial",)):
            state = read_ledger(tmp_path)
            return affordable_together(state, [phase], count, target, DELTA, within=within)

        while granted := affordable("adversarial", 40):
            ledger.reserve("adversarial", granted)
            done += granted
        assert done > 40 and ledger.epsilon(DELTA) <= target
        assert affordable("adversarial", 1) == 0
        assert epsilon([MechanismRun(ADV, round(done * 1.02))], DELTA) > target
        # Another phase has a budget of its own, unless the budget is that of the whole run.
        assert affordable("discriminator", 10, ("discriminator",)) == 10
        assert affordable("discriminator", 10, None) < 10


def test_shuffled_epochs_count_repeated_passes(tmp_path):
    mechanism = SampledGaussian(9.0, 0.1, SHUFFLED_EPOCHS, rows=640)
    header = LedgerHeader({"adversarial": mechanism}, 1.0)
    # Three processes die in the first five of ten steps: a row was used in each of them.
    for _ in range(3):
        with Ledger(tmp_path, header) as ledger:
            ledger.reserve("adversarial", 5)
    with Ledger(tmp_path, header) as ledger:
        ledger.reserve("adversarial", 20)
        spent = ledger.phases()["adversarial"]
        assert (spent.steps, spent.exposures) == (35, 5)
    # From the middle of one epoch into the next one: two passes.
    with Ledger(tmp_path, header, checkpoint={"adversarial": 18}) as ledger:
        ledger.reserve("adversarial", 3)
        assert ledger.phases()["adversarial"].exposures == 7
        target = epsilon([MechanismRun(mechanism, 80)], DELTA) * 1.001
        # An eighth pass is affordable, to the end of the epoch that has begun and of the next.
        state = read_ledger(tmp_path)
        assert affordable_together(state, ["adversarial"], 100, target, DELTA) == 19


def test_unknown_phases_and_empty_reservations_are_refused(tmp_path):
    with Ledger(tmp_path, HEADER) as ledger:
        with pytest.raises(UsageError, match="unknown phase 'restorer'"):
            ledger.reserve("restorer", 5)
        with pytest.raises(ValueError, match="count > 0"):
            ledger.reserve("adversarial", 0)


Q = 0.1
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


def test_report_has_epsilon_of_run_and_phases(tmp_path):
    report = report_of(tmp_path, {"discriminator": 20})
    assert report["epsilon_pld"] == pytest.approx(directly({"discriminator": 20}), rel=2e-3)
    assert report["phases"]["discriminator"]["epsilon_pld"] == report["epsilon_pld"]
    assert report["as_run"] == {name: report[name] for name in NONE}
    assert report["phases"]["adversarial"]["epsilon_rdp"] == 0 and report["person"] == NONE
    assert (report["steps"], report["void"], report["sampling"]) == (20, False, "poisson")
    assert report["adjacency"] == "add_or_remove_one" and report["void_reason"] is None


def test_report_counts_a_phase_that_ended_early_as_planned(tmp_path):
    ran, planned = {"discriminator": 20, "adversarial": 30}, {"discriminator": 90}
    report = report_of(tmp_path, ran, planned)
    assert report["epsilon_pld"] == pytest.approx(directly(ran | planned), rel=2e-3)
    assert report["as_run"]["epsilon_pld"] == pytest.approx(directly(ran), rel=2e-3)
    phase = report["phases"]["discriminator"]
    assert phase["epsilon_pld"] == pytest.approx(directly(planned), rel=2e-3)
    assert (phase["steps"], report["steps"]) == (20, 50), "these are the updates that ran"
    other = report["phases"]["adversarial"]
    assert other["epsilon_pld"] == pytest.approx(directly({"adversarial": 30}), rel=2e-3)


def test_report_counts_updates_beyond_the_plan(tmp_path):
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


def test_report_after_kills_and_an_early_end_adds_a_block_per_kill(tmp_path):
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


def test_interruption_without_loss_is_not_counted_as_kill(tmp_path):
    for start in (0, 4):
        with Ledger(tmp_path, header(), checkpoint={"discriminator": start}) as ledger:
            ledger.reserve("discriminator", 8)
            ledger.settle("discriminator", start + 4)
            state = ledger.state
    assert state.kill_allowance == 0
    report = ledger_report(state, DELTA, {"discriminator": 20, "adversarial": 0}, ["discriminator"])
    assert report["epsilon_pld"] == pytest.approx(directly({"discriminator": 20}), rel=2e-3)


def test_report_has_the_person_epsilon_of_the_plan(tmp_path):
    early = report_of(tmp_path / "a", {"discriminator": 5}, {"discriminator": 40}, header(2))
    whole = report_of(tmp_path / "b", {"discriminator": 40}, None, header(2))
    assert early["person"] == whole["person"] and early["person"]["epsilon_pld"] is not None


def test_report_counts_planned_passes_of_shuffled_epochs(tmp_path):
    # 10 steps an epoch: 15 that ran touched two epochs, 40 would have been four.
    shuffled = header(sampling=SHUFFLED_EPOCHS)
    report = report_of(tmp_path, {"discriminator": 15}, {"discriminator": 40}, shuffled)
    for result, passes in ((report, 4), (report["as_run"], 2)):
        expected = reference_epsilon([(3.0, 1.0, passes)], DELTA)
        assert result["epsilon_pld"] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("planned", [None, {"discriminator": 90}])
def test_report_of_a_void_run_has_no_epsilon(tmp_path, planned):
    report = report_of(tmp_path, {"discriminator": 20}, planned, header(2), void="a test key")
    assert (report["void"], report["void_reason"], report["steps"]) == (True, "a test key", 20)
    everywhere = [report, report["as_run"], report["person"], *report["phases"].values()]
    for result in everywhere:
        assert {name: result[name] for name in NONE} == NONE


TOTAL, BLOCK, CHECKPOINT_EVERY = 120, 8, 5
# One byte is appended to `ran` for each update, `checkpoint` is replaced atomically.
PROGRAM = """
import os, sys, time
from pathlib import Path
from tf_mtl_privacy.files import write_atomic
from tf_mtl_privacy.privacy.accounting.events import SampledGaussian
from tf_mtl_privacy.privacy.ledger import Ledger
from tf_mtl_privacy.privacy.ledger import LedgerHeader

folder, total, block, every = Path(sys.argv[1]), *map(int, sys.argv[2:])
saved = folder / "checkpoint"
start_process, run_id = saved.read_text().split() if saved.exists() else ("0", "")
step = int(start_process)
header = LedgerHeader({"adversarial": SampledGaussian(4.0, 0.1)}, l2_norm_clip=1.0)
ran = os.open(folder / "ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
with Ledger(folder, header, checkpoint={"adversarial": step}, run_id=run_id) as ledger:
    print("ready", flush=True)
    while step < total:
        if step == ledger.covered("adversarial"):
            ledger.reserve("adversarial", block)
        os.write(ran, b".")
        step += 1
        time.sleep(0.002)
        if step % every == 0 or step == total:
            write_atomic(saved, f"{step} {ledger.run_id}")
            ledger.settle("adversarial", step)
assert "dp_accounting" not in sys.modules and "tensorflow" not in sys.modules
"""


def start_process(folder):
    command = [sys.executable, "-c", PROGRAM, folder, TOTAL, BLOCK, CHECKPOINT_EVERY]
    return subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def count_updates(folder):
    ran = (folder / "ran").stat().st_size
    return ran, read_ledger(folder).spent("adversarial")


def finish_process(folder, process):
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    ran, spent = count_updates(folder)
    assert (folder / "checkpoint").read_text().split()[0] == str(TOTAL)
    return ran, spent


def test_uninterrupted_run_is_counted_exactly(tmp_path):
    assert finish_process(tmp_path, start_process(tmp_path)) == (TOTAL, TOTAL)


def test_count_survives_kill_9_at_random_moments(tmp_path):
    moments, kills = random.Random(5), 0
    while kills < 6:
        process = start_process(tmp_path)
        assert process.stdout.readline() == "ready\n", process.stderr.read()
        time.sleep(moments.uniform(0.0, 0.06))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        if process.returncode == 0:
            break
        kills += 1
        ran, spent = count_updates(tmp_path)
        # Every process leaves at most one block that did not run.
        assert ran <= spent <= ran + BLOCK * kills
    assert kills >= 3
    ran, spent = finish_process(tmp_path, start_process(tmp_path))
    # The weights have all updates; those lost since a checkpoint ran twice and are counted twice.
    assert TOTAL <= ran <= TOTAL + CHECKPOINT_EVERY * kills
    assert ran <= spent <= ran + BLOCK * kills
    # Against the updates in the weights, a kill costs at most a block.
    assert spent <= TOTAL + BLOCK * kills
