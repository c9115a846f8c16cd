"""Stated epsilon of phases that a gate, the stop rule or a budget ended."""

import re

import pytest

from tests.privacy.reference import reference_epsilon
from tests.reporting.private_runs import BATCH, DELTA, ROWS, STEPS, dp_sentences, private_dp
from tf_mtl_privacy.reporting.sections.privacy import privacy_text
from tf_mtl_privacy.training.private_updates import Budget

PLANNED = {"adversarial_discriminator": 300}
RAN = STEPS["discriminator"] + STEPS["adversarial_discriminator"]
ALL = STEPS["discriminator"] + PLANNED["adversarial_discriminator"]
PLAN_LINE = (
    r"This is the epsilon of the planned number of updates. A gate or the stop rule ended training "
    r"early; the updates that ran have conditional epsilon ([\d.]+), which would hold only"
)


def directly(steps, noise=2.0):
    return reference_epsilon([(noise, BATCH / ROWS, steps)], DELTA)


def early_dp(**options):
    return private_dp(early=["adversarial"], **({"planned": PLANNED} | options))


def epsilons(value, path=""):
    """Every figure of an epsilon within a `dp` part, by its path."""
    found = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found |= epsilons(item, f"{path}{name}.")
        elif name.startswith("epsilon_") or path in ("released.", "conditional."):
            found[path + name] = item
    return found


def test_epsilon_of_a_phase_ended_by_a_gate_is_that_of_its_plan():
    dp = early_dp()
    assert dp["epsilon_pld"] == pytest.approx(directly(ALL), rel=2e-3)
    assert dp["as_run"]["epsilon_pld"] == pytest.approx(directly(RAN), rel=2e-3)
    assert dp["as_run"]["epsilon_rdp"] < dp["epsilon_rdp"]
    assert dp["conditional"]["discriminator"] == dp["epsilon_pld"]
    game, before = (dp["phases"][n] for n in ("adversarial_discriminator", "discriminator"))
    assert game["epsilon_pld"] == pytest.approx(directly(300), rel=2e-3)
    assert (game["steps"], game["steps_planned"], game["steps_in_weights"]) == (75, 300, 72)
    assert before["epsilon_pld"] == pytest.approx(directly(50), rel=2e-3)
    assert (before["steps"], before["steps_planned"], dp["steps"]) == (50, 50, RAN)


def test_person_level_epsilon_of_a_phase_ended_by_a_gate_is_that_of_its_plan():
    ours = early_dp(most_images=2)
    whole = private_dp(most_images=2, planned=PLANNED)
    assert ours["person"]["epsilon_pld"] > whole["person"]["epsilon_pld"] > whole["epsilon_pld"]


def test_claims_state_planned_and_executed_updates():
    lines = dp_sentences(early_dp())
    (shown,) = [m for line in lines if (m := re.match(PLAN_LINE, line))]
    assert directly(RAN) <= float(shown[1]) <= directly(RAN) * 1.003
    (game,) = [line for line in lines if line.startswith("Adversarial discriminator updates")]
    assert game.endswith(", noise multiplier 2.000, 75 of 300 planned updates.")
    (before,) = [line for line in lines if line.startswith("Discriminator updates")]
    assert before.endswith(", noise multiplier 2.000, 50 updates.")
    assert not re.search(PLAN_LINE, "\n".join(dp_sentences(private_dp())))


def test_epsilon_of_a_phase_ended_by_its_budget_is_that_of_what_ran():
    dp = private_dp(ended={"adversarial": 225}, planned=PLANNED)
    assert dp["epsilon_pld"] == dp["as_run"]["epsilon_pld"]
    assert dp["epsilon_pld"] == pytest.approx(directly(RAN), rel=2e-3)
    text = "\n".join(dp_sentences(dp))
    assert not re.search(PLAN_LINE, text) and "75 of 300 planned updates" in text


def test_epsilon_of_a_plan_is_at_most_the_target_of_the_run():
    # After a kill the plan sums up to more than the target, which is 2 here.
    planned = {"adversarial_discriminator": 6000}
    assert directly(6050) > 2.1
    dp = early_dp(planned=planned)
    assert dp["epsilon_pld"] == dp["conditional"]["discriminator"] == 2.0
    assert dp["as_run"]["epsilon_pld"] == pytest.approx(directly(RAN), rel=2e-3)


def test_epsilon_of_a_plan_with_different_mechanisms_is_the_larger_one():
    # The same, but how many joint updates fit into the target now depends on where the other
    # phase ended: that stopping there keeps the target is not proven for PLD.
    dp = early_dp(
        planned={"adversarial_discriminator": 6000},
        noise_of={"discriminator": 2.5},
    )
    expected = reference_epsilon([(2.5, BATCH / ROWS, 50), (2.0, BATCH / ROWS, 6000)], DELTA)
    assert expected > 2.1 and dp["epsilon_pld"] == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("killed", "early"), [(40, True), (0, True), (40, False)])
def test_claims_give_the_reason_for_an_exceeded_target(killed, early):
    planned = {"adversarial_discriminator": 5200}
    options = {"planned": planned, "noise_of": {"discriminator": 2.5}, "killed": killed}
    dp = early_dp(**options) if early else private_dp(**options)
    (budget,) = dp["budgets"]
    (line,) = [line for line in dp_sentences(dp) if line.startswith("Target epsilon 2 for ")]
    if not (killed and early):
        assert budget["exceeded"] is None and "EXCEEDED" not in line
        return
    exact = reference_epsilon([(2.5, BATCH / ROWS, 90), (2.0, BATCH / ROWS, 5240)], DELTA)
    assert exact > 2 and dp["epsilon_pld"] == pytest.approx(exact, rel=2e-3)
    assert budget["exceeded"].startswith("a gate or the stop rule ended a phase early, so that")
    assert "up to 40 more updates of each kind count in addition" in budget["exceeded"]
    assert f"; EXCEEDED: {budget['exceeded']}" in line


def test_budgets_of_parts_name_the_exceeded_one():
    names = ("discriminator", "adversarial_discriminator")
    budgets = (Budget(names[:1], 0.35), Budget(names[1:], 5.0))
    dp = early_dp(killed=40, budgets=budgets)
    # 50 planned and 40 lost updates of the first half, 300 and 40 of the second.
    first, second = (directly(steps) for steps in (90, 340))
    assert first > 0.35 and second < 5.0
    assert [budget["exceeded"] is None for budget in dp["budgets"]] == [False, True]


def test_epsilon_of_accounted_updates_is_never_cut_to_the_target():
    # A ledger that says more than its target: training never writes one.
    exact = directly(RAN, 0.7)
    assert exact > 2.5
    for found in (private_dp(noise=0.7), early_dp(noise=0.7)):
        assert found["epsilon_pld"] == pytest.approx(exact, rel=2e-3)


@pytest.mark.parametrize("early", [(), ("adversarial",)])
@pytest.mark.parametrize("scope", ["discriminator", "all"])
def test_void_run_prints_no_epsilon(scope, early):
    options = {"planned": PLANNED, "early": early, "most_images": 2}
    void = epsilons(private_dp(scope, void="sampling and noise come from a fixed key", **options))
    assert set(void.values()) == {None}
    kept = epsilons(private_dp(scope, **options))
    assert kept.keys() == void.keys() and len(kept) > 10
    assert None not in [
        kept[n] for n in kept if n.startswith(("epsilon", "as_run", "person", "ph"))
    ]


def test_privacy_text_states_the_epsilon_of_the_plan():
    text = " ".join(privacy_text(early_dp()).split())
    assert re.search(PLAN_LINE, text)
