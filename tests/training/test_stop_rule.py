"""The stop rule in a run, with the attackers of `train`: it ends the joint phase."""

import dataclasses
import json

import numpy as np
import pytest

from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import GameConfig, LossConfig, ModelConfig, PrivacyConfig
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.evaluation.training_checks import CHECK, fresh_check
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.trainer import shown_figures

# The only attacker that is no network, because it is fast.
QUICK = dataclasses.replace(
    CHECK, rows=96, validation_rows=40, dimensions=16, features=("logistic_whitened",)
)
FIGURES = {"fresh_probe_balanced_accuracy", "fresh_probe_upper", "membership_success_rate"}
# Bounds that all networks meet from the second epoch on.
EASY = {
    "stop_business": "gender=0.01",
    "stop_change": 1.0,
    "stop_epochs": 1,
    "stop_privacy": 1.0,
    "stop_membership": 1.0,
    "stop_psnr": 0.0,
}


def config_of(cache, game=(), **train):
    epochs = {"business_epochs": 0, "discriminator_epochs": 0, "restorer_epochs": 0}
    config = tiny_config("mtl_adv", adversarial_epochs=3, batch_size=72, **(epochs | EASY | train))
    data = dataclasses.replace(config.data, cache_dir=str(cache))
    return dataclasses.replace(config, data=data, game=GameConfig(**dict(game)))


def joint(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["phase"] == "adversarial"]


def trained(run_dir, cache, **train):
    config = config_of(cache, {"check_epochs": 1}, **train)
    return fit(config, run_dir=run_dir, check=fresh_check(config, QUICK))


@pytest.mark.usefixtures("untraced")
def test_run_stops_if_every_part_is_met(tmp_path, cache):
    run = trained(tmp_path, cache)
    rule = run.status["stop_rule"]
    assert rule["met"] and {part["status"] for part in rule["parts"].values()} == {"met"}
    epochs = joint(tmp_path)
    assert len(epochs) == 2, "the change of an accuracy is known from the second epoch on"
    for line in epochs:
        actual = {name: line[f"validation_{name}"] for name in FIGURES}
        assert all(0 <= value <= 1 for value in actual.values())
        assert actual["fresh_probe_upper"] > actual["fresh_probe_balanced_accuracy"]
    assert rule["parts"]["privacy"]["value"] == epochs[-1]["validation_fresh_probe_upper"]
    assert set(run.status["training"]["before_game"]) == FIGURES


@pytest.mark.slow
@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize(
    ("part", "bound"), [("privacy", {"stop_privacy": 0.0}), ("psnr_db", {"stop_psnr": 90.0})]
)
def test_run_continues_if_one_part_is_missed(tmp_path, cache, part, bound):
    run = trained(tmp_path, cache, **bound)
    parts = run.status["stop_rule"]["parts"]
    assert {name for name, p in parts.items() if p["status"] != "met"} == {part}
    assert parts[part]["status"] == "not_met" and len(joint(tmp_path)) == 3


@pytest.mark.usefixtures("untraced")
def test_run_continues_if_membership_is_missed(tmp_path, cache, monkeypatch):
    place = "tf_mtl_privacy.evaluation.training_checks.success_rate"
    monkeypatch.setattr(place, lambda *arguments: 0.3)
    run = trained(tmp_path, cache, stop_membership=0.25)
    parts = run.status["stop_rule"]["parts"]
    assert {name for name, p in parts.items() if p["status"] != "met"} == {"membership"}
    assert len(joint(tmp_path)) == 3


@pytest.mark.usefixtures("untraced")
def test_check_of_fully_private_run_reads_no_training_row(cache):
    """Attackers learn from faces drawn for them; only membership inference needs training rows."""
    config = config_of(cache)
    dataset = open_dataset(config.data)
    classes = {task: len(names) for task, names in dataset.task_classes.items()}
    bundle = build_bundle(config, classes, len(dataset.private_classes))
    private = dataclasses.replace(
        config,
        train=dataclasses.replace(config.train, model="mtl_adv_dp"),
        model=ModelConfig(backbone="a run"),
        privacy=PrivacyConfig(dp_scope="all"),
        loss=LossConfig(),
    )
    read = []

    class Store:
        def __getattr__(self, name):
            return getattr(dataset.store, name)

        def images(self, rows):
            read.append(rows)
            return dataset.store.images(rows)

    watched = dataclasses.replace(dataset, store=Store())
    actual = fresh_check(private, QUICK)(bundle, watched)
    assert set(actual) == FIGURES - {"membership_success_rate"}
    assert read and not np.isin(np.concatenate(read), dataset.rows["train"]).any()
    # Control: the store records rows that are read.
    read.clear()
    assert set(fresh_check(config, QUICK)(bundle, watched)) == FIGURES
    assert np.isin(np.concatenate(read), dataset.rows["train"]).any()


def test_epoch_line_shows_attacker_and_membership():
    figures = {
        "fresh_probe_balanced_accuracy": 0.131,
        "fresh_probe_upper": 0.152,
        "membership_success_rate": 0.061,
    }
    assert shown_figures(figures) == (
        "fresh attacker 13.1 % (upper end 15.2 %), membership inference 6.1 %"
    )
