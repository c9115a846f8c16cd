"""`--dp_scope=all` from a public run to results, and what a kill leaves of it."""

import hashlib
import math
import signal

import numpy as np
import pytest

from tests.privacy.reference import reference_epsilon
from tests.training.tiny_private import (
    STEPS,
    UPDATES,
    all_private_config,
    backbone_config,
    train_in_process,
)
from tf_mtl_privacy.data import open_dataset
from tf_mtl_privacy.privacy.ledger import read_ledger
from tf_mtl_privacy.reporting.evaluate_run import evaluate_run
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.saved_run import load_run

pytestmark = pytest.mark.slow
PARTS = {"encoder", "business", "restorer", "discriminator"}
DELTA, TARGET = 1e-5, 2.0


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def public(cache, tmp_path_factory):
    return fit(backbone_config(cache), run_dir=tmp_path_factory.mktemp("runs") / "backbone")


@pytest.fixture(scope="module")
def private(cache, public, tmp_path_factory):
    config = all_private_config(cache, public.run_dir, TARGET)
    return fit(config, run_dir=tmp_path_factory.mktemp("runs") / "private")


@pytest.fixture(scope="module")
def results(private):
    return evaluate_run(private.run_dir)


def directly(phases):
    """Epsilon of what a result says has run, from dp-accounting itself."""
    names = "noise_multiplier", "sampling_probability", "steps"
    return reference_epsilon([[phase[name] for name in names] for phase in phases.values()], DELTA)


def test_every_released_part_has_the_one_epsilon_of_the_whole_run(public, results):
    dp = results["dp"]
    assert dp["scope"] == "all" and dp["void"] is False and dp["reason"] is None
    assert set(dp["released"]) == PARTS
    (epsilon,) = set(dp["released"].values())
    assert 0.95 * TARGET < epsilon <= TARGET
    assert epsilon == dp["epsilon_pld"] == pytest.approx(directly(dp["phases"]), rel=2e-3)
    assert dp["epsilon_rdp"] >= epsilon
    assert dp["conditional"] == {"discriminator": None}
    weights = (public.run_dir / "models" / "encoder.weights.h5").read_bytes()
    assert dp["public_backbone"] == (
        "an encoder trained on synthetic faces, which are drawn and of nobody (weights' SHA-256 "
        f"{hashlib.sha256(weights).hexdigest()[:16]})"
    )


def test_labels_are_read_only_where_the_result_says_so(results):
    assert results["dp"]["unaccounted_label_access"] == []
    assert results["dp"]["validation_label_access"] == [
        "gates and the schedule of beta read the labels of validation rows"
    ]


def test_six_updates_are_counted_as_they_were_planned(private, results):
    spent = read_ledger(private.run_dir / "checkpoints").phases()
    assert {name: phase.steps for name, phase in spent.items()} == dict.fromkeys(UPDATES, STEPS)
    dp = results["dp"]
    assert dp["steps"] == 6 * STEPS and dp["budget_ended"] == {}
    (noise,) = {phase["noise_multiplier"] for phase in dp["phases"].values()}
    assert noise > 0
    for name, phase in dp["phases"].items():
        assert phase["steps_in_weights"] == STEPS, name
        assert phase["rows"] == 72 and phase["sampling"] == "poisson"
        assert math.isclose(phase["sampling_probability"], 16 / 72)
    trained = results["training"]["phases"]
    assert {name: phase["steps"] for name, phase in trained.items()} == dict.fromkeys(
        UPDATES.values(), STEPS
    )


def weights(run):
    return {
        f"{name}/{variable.path}": variable.numpy()
        for name, model in run.bundle.items()
        for variable in model.variables
    }


def test_the_backbone_has_the_public_runs_bits_and_all_else_has_moved(public, private):
    before, after = weights(public), weights(private)
    assert before.keys() == after.keys()
    frozen = [n for n in before if n.startswith("encoder/") and "adapter_" not in n]
    assert len(frozen) > 10
    for name in before:
        assert np.array_equal(before[name], after[name]) == (name in frozen), name
        assert np.isfinite(after[name]).all()


def test_the_finished_run_predicts_and_keeps_no_features(private, results):
    dataset = open_dataset(private.config.data)
    images = dataset.store.images(dataset.rows["test"])
    predicted = predict_images(private.bundle, images, restore=True)
    assert predicted.restored.shape == images.shape
    for task, classes in private.task_classes.items():
        probabilities = np.asarray(predicted.probabilities[task])
        assert probabilities.shape == (24, len(classes))
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
        right = probabilities.argmax(axis=1) == dataset.labels("test").business[task]
        assert results["utility"][task]["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert not (private.run_dir / "features").exists()


def test_a_finished_run_is_the_same_without_its_backbone(public, private):
    away = public.run_dir.with_name("away")
    public.run_dir.rename(away)
    try:
        again = fit(private.config, run_dir=private.run_dir)
    finally:
        away.rename(public.run_dir)
    ours, theirs = weights(private), weights(again)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


# In each phase; off and on a checkpoint (every second step), before the first one, and between
# the updates of a joint step.
DEATHS = (1, 14, 25, 36)


def test_a_run_killed_in_every_phase_has_as_many_updates(cache, public, tmp_path):
    arguments = tmp_path / "killed", cache, public.run_dir
    for step in DEATHS:
        assert train_in_process(*arguments, die_at=step, untraced=True) == -signal.SIGKILL
    assert train_in_process(*arguments, untraced=True) == 0
    run = load_run(tmp_path / "killed")
    dp = run.status["dp"]
    assert {p: v["steps"] for p, v in run.status["training"]["phases"].items()} == dict.fromkeys(
        UPDATES.values(), STEPS
    )
    for name, phase in dp["phases"].items():
        assert phase["steps_in_weights"] == STEPS
        # One kill in each phase: at most one block of two was reserved and lost.
        assert STEPS < phase["steps"] <= STEPS + 2, name
    assert dp["epsilon_pld"] == pytest.approx(directly(dp["phases"]), rel=2e-3)
    assert set(dp["released"].values()) == {dp["epsilon_pld"]}
    assert not (tmp_path / "killed" / "features").exists()


def test_a_killed_run_with_a_budget_ends_early_instead_of_overspending(cache, public, tmp_path):
    arguments = tmp_path / "killed", cache, public.run_dir, TARGET
    assert train_in_process(*arguments, die_at=33, untraced=True) == -signal.SIGKILL
    assert train_in_process(*arguments, untraced=True) == 0
    dp = load_run(tmp_path / "killed").status["dp"]
    assert dp["epsilon_pld"] <= TARGET and directly(dp["phases"]) <= TARGET * 1.002
    left = dp["budget_ended"]["adversarial"]
    assert 0 < left <= 2
    for name, phase in UPDATES.items():
        expected = STEPS - left if phase == "adversarial" else STEPS
        assert dp["phases"][name]["steps_in_weights"] == expected
