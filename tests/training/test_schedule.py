import pytest

from tf_mtl_privacy.config import Config, LossConfig, TrainConfig
from tf_mtl_privacy.training import schedule

TASKS = ("gender", "age")


def config(**train):
    return Config(train=TrainConfig(**train))


def betas(loss, epochs, accuracies):
    beta, seen = loss.beta, []
    for finished in range(1, epochs + 1):
        seen.append(beta)
        beta = schedule.next_beta(loss, beta, finished, epochs, accuracies[finished - 1])
    return seen


def test_beta_follows_papers_schedule():
    seen = betas(LossConfig(), 20, [0.1] * 20)
    assert seen == [0.1] * 10 + [0.3] * 10


def test_beta_rises_at_failed_checks_up_to_bound():
    seen = betas(LossConfig(), 60, [0.6] * 60)
    # Checks after epochs 10, 20, ... add 0.1 each; after epoch 30 beta is at least 0.3 as well.
    assert seen[9] == 0.1
    assert seen[10] == pytest.approx(0.2)
    assert seen[20] == pytest.approx(0.3)
    assert seen[30] == pytest.approx(0.4)
    assert seen[40] == seen[59] == pytest.approx(0.5)


def test_beta_check_fails_from_bound_on():
    loss = LossConfig()
    assert schedule.next_beta(loss, 0.3, 10, 100, 0.6) == pytest.approx(0.4)
    assert schedule.next_beta(loss, 0.3, 10, 100, 0.5999) == 0.3
    assert schedule.next_beta(loss, 0.3, 9, 100, 1.0) == 0.3
    assert schedule.next_beta(loss, 0.3, 10, 100, None) == 0.3


def test_beta_switch_never_lowers_beta():
    assert schedule.next_beta(LossConfig(), 0.5, 10, 20, 0.0) == 0.5


def test_beta_of_zero_stays_zero():
    """With beta and beta_late at 0 no failed check raises beta."""
    off = LossConfig(beta=0.0, beta_late=0.0)
    assert betas(off, 60, [1.0] * 60) == [0.0] * 60
    # A game that starts late is a game.
    late = betas(LossConfig(beta=0.0), 20, [0.1] * 20)
    assert late == [0.0] * 10 + [0.3] * 10


def test_beta_warmup_is_linear():
    """Two epochs of four steps each, by hand: 0, 1/8, ..., 7/8, then all of it."""
    actual = [schedule.warmed_beta(0.4, e + s / 4, 2.0) for e in range(3) for s in range(4)]
    assert actual == pytest.approx([0.4 * min(1, n / 8) for n in range(12)])
    assert actual[0] == 0 and actual[4] == pytest.approx(0.2) and actual[8:] == [0.4] * 4
    # Half an epoch, and none at all.
    assert schedule.warmed_beta(0.4, 0.25, 0.5) == pytest.approx(0.2)
    assert schedule.warmed_beta(0.4, 0.0, 0.0) == 0.4


def test_checks_are_due_by_interval_and_after_last_epoch():
    due = [e for e in range(1, 11) if schedule.check_due(4, e, last=e == 10)]
    assert due == [4, 8, 10]
    assert [e for e in range(1, 11) if schedule.check_due(0, e, last=e == 10)] == [10]


def test_initial_beta_is_zero_without_game():
    assert schedule.initial_beta(config(model="mtl_adv")) == 0.1
    assert schedule.initial_beta(config(model="mtl_adv_dp")) == 0.1
    assert schedule.initial_beta(config(model="mtl_dp")) == 0.0
    assert schedule.initial_beta(config(model="stl")) == 0.0


def test_single_task_model_has_no_discriminator_phase():
    assert list(schedule.phase_epochs(config(model="stl"))) == ["business", "adversarial"]
    phases = ["business", "discriminator", "restorer", "adversarial"]
    assert list(schedule.phase_epochs(config(model="mtl_dp"))) == phases


@pytest.mark.parametrize(
    ("phase", "metrics", "status"),
    [
        ("business", {"gender_accuracy": 0.90}, "met"),
        ("business", {"gender_accuracy": 0.8999}, "not_met"),
        ("business", {"age_accuracy": 1.0}, "not_evaluated"),
        ("discriminator", {"privacy_balanced_accuracy": 0.8}, "met"),
        ("discriminator", {"privacy_balanced_accuracy": 0.79}, "not_met"),
        ("restorer", {"psnr_db": 30.0}, "met"),
        ("restorer", {"psnr_db": 29.9}, "not_met"),
    ],
)
def test_gate_at_threshold_is_met(phase, metrics, status):
    assert schedule.gate(config(), phase, metrics, TASKS)["status"] == status


def test_gate_of_zero_is_off_without_early_gates():
    figures = {"privacy_balanced_accuracy": 0.1}

    def status(**changes):
        return schedule.gate(config(**changes), "discriminator", figures, TASKS)["status"]

    assert status(gate_discriminator=0.0, early_gates=False) == "off"
    # With early gates it ends the phase after its first epoch.
    assert status(gate_discriminator=0.0) == "met"
    assert status(gate_discriminator=0.2, early_gates=False) == "not_met"


def test_phase_without_gate_has_no_result():
    assert schedule.gate(config(), "adversarial", {}, TASKS) is None
    assert (
        schedule.gate(config(gate_business=""), "business", {"gender_accuracy": 1.0}, TASKS) is None
    )


PROBE = "fresh_probe_upper"
GOOD = {
    "gender_accuracy": 0.95,
    "age_accuracy": 0.80,
    "psnr_db": 32.0,
    PROBE: 0.15,
    "membership_success_rate": 0.10,
}


def test_stop_rule_is_met_if_every_part_is():
    assert schedule.stop_rule(config(), [GOOD] * 6, TASKS)["met"]


def test_stop_rule_waits_for_steady_accuracies():
    result = schedule.stop_rule(config(), [GOOD] * 5, TASKS)
    assert not result["met"]
    assert result["parts"]["gender_change"]["status"] == "not_evaluated"
    moving = [GOOD | {"gender_accuracy": 0.961}] + [GOOD] * 5
    assert (
        schedule.stop_rule(config(), moving, TASKS)["parts"]["gender_change"]["status"] == "not_met"
    )


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("gender_accuracy", 0.9499, "gender_accuracy"),
        ("age_accuracy", 0.79, "age_accuracy"),
        ("psnr_db", 31.9, "psnr_db"),
        (PROBE, 0.151, "privacy"),
        ("membership_success_rate", 0.101, "membership"),
    ],
)
def test_stop_rule_with_one_unmet_part_is_not_met(name, value, part):
    result = schedule.stop_rule(config(), [GOOD] * 5 + [GOOD | {name: value}], TASKS)
    assert not result["met"]
    assert result["parts"][part]["status"] == "not_met"


def far(*history):
    return schedule.shortfall(schedule.stop_rule(config(), history, TASKS))


def test_shortfall_matches_hand_calculation():
    assert far(*[GOOD] * 6) == (0, 0.0, 0.15)
    leaky = GOOD | {PROBE: 0.3}
    blurred = GOOD | {"psnr_db": 16.0, "gender_accuracy": 0.76}
    assert far(leaky) == (1, pytest.approx(1.0), 0.3)
    assert far(blurred) == (2, pytest.approx(0.5 + 0.2), 0.15)
    # First the number of unmet parts, then their distances, then the attacker's accuracy.
    assert far(GOOD) < far(leaky) < far(leaky | {PROBE: 0.31}) < far(blurred)
    assert far(GOOD | {PROBE: 0.1}) < far(GOOD)


def test_shortfall_ignores_changes_over_epochs():
    assert far(GOOD) == far(*[GOOD] * 6)
    # Unsteady accuracies do not count either.
    course = [GOOD | {"gender_accuracy": 0.97}, *[GOOD] * 5]
    rule = schedule.stop_rule(config(), course, TASKS)
    assert rule["parts"]["gender_change"]["status"] == "not_met"
    assert schedule.shortfall(rule) == far(GOOD)
    worse = GOOD | {PROBE: 0.2}
    assert far(GOOD) < far(*[GOOD] * 3, *[worse] * 6)


def test_shortfall_of_collapsed_encoder_exceeds_near_miss():
    near = GOOD | {"gender_accuracy": 0.94, "psnr_db": 31.0}
    collapsed = GOOD | {"gender_accuracy": 0.5, "psnr_db": 14.0, PROBE: 0.125}
    assert far(near)[0] == far(collapsed)[0] == 2
    assert far(near) < far(collapsed)


def test_shortfall_ignores_missing_figures():
    without = {k: v for k, v in GOOD.items() if k != PROBE}
    assert far(without) == (0, 0.0, 1.0)
    bound = config(stop_membership=0.0)
    rule = schedule.stop_rule(bound, [GOOD], TASKS)
    assert schedule.shortfall(rule) == (1, 0.10, 0.15)


def test_stop_rule_without_attacks_is_not_evaluated():
    history = [{k: v for k, v in GOOD.items() if "probe" not in k and "membership" not in k}] * 6
    result = schedule.stop_rule(config(), history, TASKS)
    assert not result["met"]
    assert result["parts"]["privacy"]["status"] == "not_evaluated"
    assert result["parts"]["membership"]["status"] == "not_evaluated"


def test_stop_rule_ignores_in_loop_discriminator():
    history = [GOOD | {"privacy_balanced_accuracy": 0.0}] * 6
    history = [{k: v for k, v in e.items() if k != PROBE} for e in history]
    assert (
        schedule.stop_rule(config(), history, TASKS)["parts"]["privacy"]["status"]
        == "not_evaluated"
    )


def test_stop_rule_reads_upper_end_of_interval():
    epoch = {k: v for k, v in GOOD.items() if k != PROBE} | {"fresh_probe_balanced_accuracy": 0.13}
    parts = [
        schedule.stop_rule(config(), [epoch | upper], TASKS)["parts"]["privacy"]
        for upper in ({PROBE: 0.149}, {PROBE: 0.16}, {})
    ]
    assert [part["status"] for part in parts] == ["met", "not_met", "not_evaluated"]
    assert [part["value"] for part in parts] == [0.149, 0.16, None]


def test_stop_rule_and_gate_ignore_other_tasks():
    steady = [{"age_accuracy": 0.8}] * 6
    result = schedule.stop_rule(config(model="stl"), steady, ("age",))
    assert set(result["parts"]) == {"age_accuracy", "age_change"}
    assert result["met"]
    assert schedule.gate(config(), "business", {"age_accuracy": 1.0}, ("age",)) is None


def test_stop_rule_without_parts_is_not_met():
    result = schedule.stop_rule(config(model="stl", stop_business=""), [], ("age",))
    assert result == {"met": False, "parts": {}}


def test_beta_switch_at_zero_applies_from_first_epoch():
    late = Config(train=TrainConfig(), loss=LossConfig(beta_switch=0.0))
    assert schedule.initial_beta(late) == 0.3
