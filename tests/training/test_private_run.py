"""A run with `--dp_scope=all`, from its public backbone to results.json."""

import hashlib
import math

import numpy as np
import pytest

from tests.privacy.reference import reference_epsilon
from tests.training.game_runs import weights
from tests.training.tiny_private import STEPS, UPDATES, all_private_config
from tf_mtl_privacy.data import open_dataset
from tf_mtl_privacy.privacy.ledger import read_ledger
from tf_mtl_privacy.reporting.evaluate_run import evaluate_run
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.inference import predict_images

pytestmark = pytest.mark.slow
PARTS = {"encoder", "business", "restorer", "discriminator"}
DELTA, TARGET = 1e-5, 2.0


@pytest.fixture(scope="module")
def private(cache, public, tmp_path_factory):
    config = all_private_config(cache, public.run_dir, TARGET)
    return fit(config, run_dir=tmp_path_factory.mktemp("runs") / "private")


@pytest.fixture(scope="module")
def results(private):
    return evaluate_run(private.run_dir)


def directly(phases):
    """Computes epsilon of a result's phases with dp-accounting."""
    names = "noise_multiplier", "sampling_probability", "steps"
    return reference_epsilon([[phase[name] for name in names] for phase in phases.values()], DELTA)


def test_every_released_part_has_epsilon_of_whole_run(public, results):
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
        "an encoder trained on synthetic faces, which show no real person (weights' SHA-256 "
        f"{hashlib.sha256(weights).hexdigest()[:16]})"
    )


def test_fully_private_run_lists_only_validation_labels(results):
    assert results["dp"]["unaccounted_label_access"] == []
    assert results["dp"]["validation_label_access"] == [
        "gates and the schedule of beta read the labels of validation rows"
    ]


def test_fully_private_run_counts_six_updates_as_planned(private, results):
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


def test_fully_private_run_changes_all_but_the_backbone(public, private):
    before, after = weights(public), weights(private)
    assert before.keys() == after.keys()
    frozen = [n for n in before if n.startswith("encoder/") and "adapter_" not in n]
    assert len(frozen) > 10
    for name in before:
        assert np.array_equal(before[name], after[name]) == (name in frozen), name
        assert np.isfinite(after[name]).all()


def test_fully_private_run_predicts_and_leaves_no_features(private, results):
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


def test_finished_run_needs_no_backbone_folder(public, private):
    away = public.run_dir.with_name("away")
    public.run_dir.rename(away)
    try:
        again = fit(private.config, run_dir=private.run_dir)
    finally:
        away.rename(public.run_dir)
    ours, theirs = weights(private), weights(again)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
