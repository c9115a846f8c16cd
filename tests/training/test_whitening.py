"""Whitening of discriminators: its statistics, its rows, and when it is set."""

import dataclasses

import numpy as np
import pytest

from tests.training.game_runs import game_config
from tests.training.test_game_fit import phases_of
from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.config import Config, ModelConfig, PrivacyConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.heads import Whitening
from tf_mtl_privacy.models.layers import first_layer
from tf_mtl_privacy.training.discriminators import fit_whitening

pytestmark = pytest.mark.usefixtures("untraced")


def test_whitened_cells_have_identity_covariance():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(5, 5))
    features = (rng.normal(size=(50, 8, 8, 5)) @ mixing + 3).astype(np.float32)
    mean, matrix = fit_whitening(features)
    white = ((features - mean) @ matrix).reshape(-1, 5)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-4)
    variances = np.linalg.eigvalsh(np.cov(features.reshape(-1, 5).T))
    # Less than 1 by the floor on small directions, worked out from the spectrum itself.
    expected = variances / (variances + 1e-3 * variances.mean())
    actual = np.linalg.eigvalsh(np.cov(white.T))
    np.testing.assert_allclose(actual, np.sort(expected), rtol=1e-3)
    # The symmetric one of all whitenings.
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5)


def test_whitening_enlarges_small_directions():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(50, 4, 4, 2)) * [1.0, 0.1]).astype(np.float32)
    mean, matrix = fit_whitening(features)
    large, small = ((features - mean) @ matrix).reshape(-1, 2).std(axis=0)
    assert large == pytest.approx(1, abs=0.01) and small == pytest.approx(0.975, abs=0.01)


def test_whitening_of_constant_features_stays_finite():
    mean, matrix = fit_whitening(np.full((3, 2, 2, 4), 7.0))
    np.testing.assert_array_equal(mean, 7)
    assert np.isfinite(matrix).all()


@pytest.mark.parametrize(
    ("features", "message"),
    [(np.zeros((1, 1, 1, 3)), "two cells"), (np.full((2, 2, 2, 3), np.nan), "finite")],
)
def test_whitening_of_invalid_features_is_refused(features, message):
    with pytest.raises(ValueError, match=message):
        fit_whitening(features)


def whitened_config(model="mtl_adv_dp", **game):
    return whitening(game_config(model, game))


def whitening(config):
    model = dataclasses.replace(config.model, discriminator_whitening=True)
    return dataclasses.replace(config, model=model)


def of_validation_rows(phases):
    """Computes mean and covariance of the features' cells with NumPy."""
    dataset = tiny_arrays()
    images = dataset.batch(dataset.rows["validation"]).image.astype(np.float32) / 255.0
    cells = np.array(phases._bundle.encoder(images, training=False))
    return fit_whitening(cells)


@pytest.mark.parametrize("model", ["mtl_adv", "mtl_adv_dp"])
def test_whitening_is_set_from_validation_rows(tmp_path, model):
    config = whitened_config(model, discriminators=2, discriminator_restart_epochs=1)
    phases, _ = phases_of(config, tmp_path)
    members = phases._discriminators.members
    pretraining = phases.build("discriminator")
    pretraining.before_epoch(0)
    first = of_validation_rows(phases)
    for member in members:
        for actual, expected in zip(
            first_layer(member, Whitening).get_weights(), first, strict=True
        ):
            np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)
    joint = phases.build("adversarial")
    joint.step(joint.inputs(0, 0))
    joint.before_epoch(1)
    anew = of_validation_rows(phases)
    assert np.abs(anew[1] - first[1]).max() > 1e-3
    np.testing.assert_allclose(
        first_layer(members[0], Whitening).get_weights()[1], anew[1], atol=1e-3
    )
    # A restart changes only the restarted discriminator's whitening.
    np.testing.assert_allclose(
        first_layer(members[1], Whitening).get_weights()[1], first[1], atol=1e-4
    )


def test_whitening_without_pretraining_is_refused():
    with pytest.raises(UsageError, match="pre-training, which --discriminator_epochs=0 skips"):
        whitening(tiny_config("mtl_adv", discriminator_epochs=0))
    # A model without a discriminator may share the flagfile.
    assert whitening(tiny_config("stl", discriminator_epochs=0)).model.discriminator_whitening


def test_whitening_in_fully_private_run_is_refused():
    model = ModelConfig(backbone="a run", discriminator_whitening=True)
    with pytest.raises(UsageError, match="statistics of validation rows into released weights"):
        Config(model=model, privacy=PrivacyConfig(dp_scope="all"))
