"""The training loop at the end of a privacy budget, with phases that only count steps."""

import dataclasses

import pytest
import tensorflow as tf

from tests.training.tiny import tiny_config
from tf_mtl_privacy.training.checkpoints import DONE, TrainingState
from tf_mtl_privacy.training.context import RunContext
from tf_mtl_privacy.training.metrics_logger import shown_losses
from tf_mtl_privacy.training.trainer import Loop
from tf_mtl_privacy.types import Phase

STEPS = 5  # an epoch
FIGURES = {"gender_accuracy": 0.9, "privacy_balanced_accuracy": 0.5, "psnr_db": 20.0}


class Budget:
    """Replaces `BudgetEnforcer`; `budgets` gives the number of steps that each phase may run."""

    def __init__(self, budgets, log):
        self.left, self.log = dict(budgets), log

    def cover(self, phase, left):
        self.log.append(("cover", phase, left))
        if phase not in self.left:
            return True
        self.left[phase] -= 1
        return self.left[phase] >= 0

    def settle(self):
        self.log.append(("settle",))

    def counted(self):
        return {"any": sum(entry[0] == "step" for entry in self.log)}


class Run:
    """Runs a loop whose parts record their calls."""

    lines = 0

    def __init__(self, budgets, checks=None, **record):
        config = tiny_config("mtl_adv_dp", early_gates=False, checkpoint_steps=2)
        loss = dataclasses.replace(config.loss, beta_check_epochs=1, beta_check_accuracy=0.0)
        self.log, self.saved, self.said = [], [], []
        self.record = TrainingState(**({"phase": "business", "beta": 0.1} | record))
        config = dataclasses.replace(config, loss=loss)
        run = RunContext(
            config, None, None, ("gender",), None, None, None, self.record, self.said.append
        )
        Loop(run, self, self, self, Budget(budgets, self.log), checks).run()

    def build(self, name):
        def step(_):
            self.log.append(("step", name))
            return {"loss": tf.constant(1.0)}

        def validate():
            self.log.append(("validate", name))
            return dict(FIGURES)

        def before_epoch(epoch):
            self.log.append(("before", name, epoch))

        return Phase(name, 2, STEPS, lambda epoch, number: None, step, validate, before_epoch)

    def close(self):
        pass

    def epoch(self, phase, step, line):
        self.log.append(("line", phase, line))

    def save(self, record):
        self.saved.append(record)
        self.log.append(("save",))

    def count(self, *what):
        return self.log.count(what)


def test_loop_budget_ending_within_epoch_ends_phase():
    run = Run({"discriminator": 7})
    assert run.record.phase == DONE
    assert run.record.steps == {
        "business": 10,
        "discriminator": 7,
        "restorer": 10,
        "adversarial": 10,
    }
    assert run.record.budget_ended == {"discriminator": 3}
    assert run.saved[-1]["budget_ended"] == {"discriminator": 3}
    # The two steps of the second epoch are validated and reported.
    assert run.count("validate", "discriminator") == 2
    assert run.record.gates["discriminator"]["epochs"] == 2
    (message,) = [text for text in run.said if "budget exhausted" in text]
    assert message.startswith("discriminator:") and "3 steps early" in message


def test_loop_budget_ending_in_first_epoch_ends_phase():
    run = Run({"discriminator": 3})
    assert run.record.steps["discriminator"] == 3
    assert run.record.budget_ended == {"discriminator": 7}
    assert run.count("validate", "discriminator") == 1
    assert sum("budget exhausted" in text for text in run.said) == 1


def test_loop_budget_ending_with_epoch_validates_once():
    run = Run({"discriminator": 5})
    assert run.record.steps["discriminator"] == 5
    assert run.record.budget_ended == {"discriminator": 5}
    assert run.count("validate", "discriminator") == 1, "an epoch without steps is not validated"


def test_loop_without_budget_skips_phase():
    run = Run({"discriminator": 0, "adversarial": 0})
    assert run.record.budget_ended == {"discriminator": 10, "adversarial": 10}
    assert "discriminator" not in run.record.steps and run.record.steps["restorer"] == 10
    assert "discriminator" not in run.record.gates and run.record.history == []


@pytest.mark.parametrize(("steps", "epochs"), [(0, [0]), (3, [0]), (5, [0]), (7, [0, 1])])
def test_loop_without_steps_still_fits_removal(steps, epochs):
    """An erasure that is reported must have been fitted, once."""
    run = Run({"adversarial": steps})
    assert [entry[2] for entry in run.log if entry[:2] == ("before", "adversarial")] == epochs
    # Before the phase's state is saved.
    if not steps:
        assert run.log.index(("before", "adversarial", 0)) < len(run.log) - 2
        assert run.log[-2:] == [("save",), ("settle",)]


def test_loop_covers_each_step_before_it_runs():
    run = Run({})
    seen = [entry for entry in run.log if entry[0] in ("cover", "step")]
    phases = ("business", "discriminator", "restorer", "adversarial")
    assert seen == [
        entry
        for phase in phases
        for left in range(10, 0, -1)
        for entry in (("cover", phase, left), ("step", phase))
    ]
    assert run.record.budget_ended == {}


def test_loop_settles_ledger_after_each_checkpoint():
    run = Run({})
    order = [entry[0] for entry in run.log if entry[0] in ("save", "settle")]
    assert order == ["save", "settle"] * (len(order) // 2) and len(run.saved) == len(order) // 2
    # Each checkpoint holds what the ledger counts of the updates that are in it.
    for saved in run.saved:
        assert saved["ledger_counted"] == {"any": sum(saved["steps"].values())}


def test_loop_resumed_after_budget_end_starts_no_epoch():
    first = Run({"adversarial": 7})
    at = next(n for n, r in enumerate(first.saved) if r["budget_ended"])
    again = Run({"adversarial": 0}, **first.saved[at])
    assert again.count("step", "adversarial") == again.count("validate", "adversarial") == 0
    assert again.record.steps == first.record.steps and again.record.phase == DONE


def test_loop_does_not_raise_beta_after_last_epoch():
    # The schedule after the first of two epochs: late beta 0.3, and a step of 0.1.
    assert Run({}).record.beta == pytest.approx(0.4)
    early = Run({"adversarial": 3})
    assert early.record.steps["adversarial"] == 3 and early.record.beta == 0.1


class Checked:
    """Replaces `Checks`; due only after the last epoch, as with --check_epochs=0."""

    def __init__(self):
        self.log = []

    def before_game(self, record):
        return False

    def figures(self, finished, *, last):
        self.log += [("figures", finished)] * last
        return {"fresh_probe_upper": 0.125} if last else {}

    def keep(self, record, *, last):
        privacy = record.stop_rule["parts"]["privacy"]["value"]
        self.log += [("keep", record.epoch, privacy)] * last

    def tidy(self, record):
        pass


# Two epochs; one, where the budget ends with it; within the second; within the first; none.
@pytest.mark.parametrize(("steps", "last"), [(99, 2), (5, 1), (7, 2), (3, 1), (0, 0)])
def test_loop_checks_last_epoch_wherever_budget_ends(steps, last):
    checks = Checked()
    run = Run({"adversarial": steps}, checks)
    expected = [("figures", last), ("keep", last, 0.125)] if last else []
    assert checks.log == expected and len(run.record.history) == last
    assert [h.get("fresh_probe_upper") for h in run.record.history[-1:]] == ([0.125] * bool(last))
    again = Checked()
    at = next((r for r in run.saved if r["budget_ended"]), None)
    if at is not None and at["epoch"] == 2:
        Run({"adversarial": 0}, again, **at)
        assert again.log == [], "it is not checked twice"


def test_loop_reports_epochs_in_words():
    run = Run({})
    phases = ("task classifier", "discriminator", "restorer", "joint training")
    expected = [f"{phase}, epoch {number} of 2" for phase in phases for number in (1, 2)]
    assert [text.partition(":")[0] for text in run.said] == expected
    assert run.said[0].startswith("task classifier, epoch 1 of 2: gender 90.0 %, in-loop disc")


def test_shown_losses_are_in_words_and_never_minus_zero():
    values = {"business_loss": 0.69314, "mask_confusion": -1e-9, "other": -0.5}
    expected = "task loss 0.693, reader's distance from chance 0.000, other -0.500"
    assert shown_losses(values) == expected
