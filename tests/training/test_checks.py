"""Attacker checks in the joint phase, and the networks that are kept."""

import dataclasses
import json

import numpy as np
import pytest

from tests.training.game_runs import STEPS, game_config
from tests.training.tiny import new_run, tiny_arrays
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.removal.mask import has_mask, is_masked
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.checkpoints import TrainingState
from tf_mtl_privacy.training.checks import Checks
from tf_mtl_privacy.training.fit import fit

FIGURE, UPPER = "fresh_probe_balanced_accuracy", "fresh_probe_upper"


def figures_of(value):
    """Returns the figures of a check with an interval of width 0."""
    return {FIGURE: value, UPPER: value}


class Check:
    """A check that returns given figures and records the networks it was called with."""

    def __init__(self, values):
        self.values, self.seen, self.masked = list(values), [], []

    def __call__(self, bundle, dataset):
        self.seen.append({v.path: np.array(v) for _, m in bundle.items() for v in m.variables})
        self.masked.append(is_masked(bundle.encoder))
        return figures_of(self.values[len(self.seen) - 1])


def figures_of_networks(bundle, dataset):
    """A check with a figure that depends on the networks alone, as required."""
    return figures_of(float(np.abs(np.array(bundle.business.variables[0])).sum() * 37 % 1))


def trained(run_dir, check, model="mtl_adv", epochs=4, **game):
    config = game_config(model, game, discriminator_epochs=0, adversarial_epochs=epochs)
    return fit(config, tiny_arrays(), run_dir=run_dir, check=check)


def history(run_dir, figure=FIGURE):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    name = f"validation_{figure}"
    return {p["epoch"]: p.get(name) for p in lines if p["phase"] == "adversarial"}


@pytest.mark.usefixtures("untraced_here")
def test_checks_run_before_joint_phase_and_when_due(tmp_path):
    check = Check([0.9, 0.5, 0.25])
    run = trained(tmp_path, check, epochs=3, check_epochs=2)
    assert history(tmp_path) == {1: None, 2: 0.5, 3: 0.25}
    assert run.status["training"]["before_game"] == figures_of(0.9)
    assert run.status["training"]["kept_epoch"] is None and len(check.seen) == 3
    privacy = run.status["stop_rule"]["parts"]["privacy"]
    assert (privacy["value"], privacy["status"]) == (0.25, "not_met")
    course = history(tmp_path, "privacy_balanced_accuracy")
    most = {"most_balanced_accuracy": max(course.values()), "epochs": 3}
    assert run.status["training"]["in_loop"] == most
    # The released weights are those of the last epoch.
    assert run.status["training"]["final_check"] == {"epoch": 3, **figures_of(0.25)}


@pytest.mark.usefixtures("untraced_here")
def test_first_check_sees_encoder_without_mask(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "tf_mtl_privacy.removal.mask_training.MaskFitting._data", lambda self: self._own
    )
    config = dataclasses.replace(
        game_config("mtl_adv", {"check_epochs": 1}, discriminator_epochs=0, adversarial_epochs=1),
        removal=RemovalConfig(
            mask="learned",
            region_labels="train",
            region_epochs=1,
            mask_warmup_steps=0,
            mask_width=4,
        ),
    )
    check = Check([0.9, 0.2])
    run = fit(config, tiny_arrays(), run_dir=tmp_path, check=check)
    assert has_mask(run.bundle.encoder) and is_masked(run.bundle.encoder)
    assert check.masked == [False, True]


def at_epoch(bundle, record, epoch, value, **figures):
    """Replaces the training of an epoch: sets weights, figures and the stop rule."""
    for _, model in bundle.items():
        for variable in model.variables:
            variable.assign(np.full(variable.shape, epoch, "float32"))
    record.history.append({**figures_of(value), **figures})
    config = game_config(stop_epochs=2)
    record.epoch = epoch
    record.stop_rule = schedule.stop_rule(config, record.history, ("gender",))


def after_epochs(checks, record, values, last=4):
    for epoch, value in values.items():
        at_epoch(checks._bundle, record, epoch, value)
        checks.keep(record, last=epoch == last)
        checks.tidy(record)


def checks_of(folder, model="mtl_adv", every=1, keep="best", measure=lambda: {}, updates=dict):
    config = game_config(model, {"check_epochs": every, "checkpoint_selection": keep})
    run = dataclasses.replace(new_run(config, tiny_arrays(), folder), check=lambda *_: measure())
    return Checks(run, updates)


def kept_in(folder):
    return sorted(path.name for path in folder.glob("checkpoints/best/*"))


@pytest.mark.parametrize(
    ("values", "every", "kept"),
    [
        ({1: 0.5, 2: 0.2, 3: 0.4, 4: 0.3}, 1, 2),
        ({1: 0.5, 2: 0.4, 3: 0.4, 4: 0.5}, 1, 3),  # the later of two that are as good
        ({1: 0.1, 2: 0.3, 3: 0.1, 4: 0.4}, 2, 2),  # the others are not checked
        ({1: 0.1, 2: 0.3, 3: 0.1, 4: 0.4}, 0, 4),
    ],
)
def test_checks_keep_networks_of_best_checked_epoch(tmp_path, values, every, kept):
    checks, record = checks_of(tmp_path, every=every), TrainingState("adversarial")
    after_epochs(checks, record, values)
    checks.restore(record)
    assert record.kept["epoch"] == kept
    for _, model in checks._bundle.items():
        assert all((np.array(variable) == kept).all() for variable in model.variables)
    assert record.stop_rule["parts"]["privacy"]["value"] == values[kept]
    assert kept_in(tmp_path) == [f"epoch-{kept}"]


def test_checks_prefer_fewer_unmet_parts_to_lower_figure(tmp_path):
    checks, record = checks_of(tmp_path), TrainingState("adversarial")
    at_epoch(checks._bundle, record, 1, 0.4, psnr_db=33.0)
    checks.keep(record, last=False)
    at_epoch(checks._bundle, record, 2, 0.2, psnr_db=9.0)
    checks.keep(record, last=False)
    assert record.kept["epoch"] == 1


def test_kept_networks_count_updates_of_their_epoch(tmp_path):
    record, made = TrainingState("adversarial"), {"adversarial_discriminator": 0}
    checks = checks_of(tmp_path, "mtl_adv_dp", updates=lambda: dict(made))
    for epoch, value in ((1, 0.2), (2, 0.8)):
        made["adversarial_discriminator"] = epoch * STEPS
        after_epochs(checks, record, {epoch: value})
    assert checks.updates_in_weights(record) == {"adversarial_discriminator": STEPS}
    plain = checks_of(tmp_path, "mtl_adv_dp", keep="last", updates=lambda: dict(made))
    assert plain.updates_in_weights(TrainingState("done")) == {
        "adversarial_discriminator": 2 * STEPS
    }


def test_checks_after_kill_ignore_unnamed_networks(tmp_path):
    record = TrainingState("adversarial")
    after_epochs(checks_of(tmp_path), record, {1: 0.4, 2: 0.5})
    saved = json.dumps(record.to_dict())
    # The process dies after writing the third epoch's networks, before the state that names them.
    dying = checks_of(tmp_path)
    at_epoch(dying._bundle, record, 3, 0.1)
    dying.keep(record, last=False)
    assert kept_in(tmp_path) == ["epoch-1", "epoch-3"]
    # As with private noise, the repeated epoch differs, and is not the best.
    again = checks_of(tmp_path)
    record = TrainingState(**json.loads(saved))
    after_epochs(again, record, {3: 0.7, 4: 0.6})
    again.restore(record)
    assert record.kept["epoch"] == 1 and kept_in(tmp_path) == ["epoch-1"]
    assert all((np.array(v) == 1).all() for v in again._bundle.encoder.variables)


def test_checks_without_discriminator_do_nothing(tmp_path):
    def measure():
        raise AssertionError("it was checked")

    checks, record = checks_of(tmp_path, "stl", measure=measure), TrainingState("adversarial")
    assert not checks.before_game(record) and checks.figures(4, last=True) == {}
    after_epochs(checks, record, {1: 0.4})
    assert record.kept == {} and not kept_in(tmp_path)
