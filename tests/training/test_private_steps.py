"""Updates of `--dp_scope=all` against gradients taken one row at a time and clipped in NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.training.private_networks import (
    BETA,
    LOSS,
    ROWS,
    Networks,
    clipped_mean,
    combined,
    middle_clip,
    norm,
    row_gradients,
)
from tf_mtl_privacy.training import steps
from tf_mtl_privacy.training.perceptual import PerceptualLoss
from tf_mtl_privacy.types import Batch

BACKENDS = ("ghost", "vectorized")


@pytest.fixture(scope="module")
def networks():
    return Networks()


def assert_moved(moved, expected):
    """Asserts that the networks of `expected` moved by that much, and the others not at all."""
    for name, parts in moved.items():
        if name not in expected:
            assert not any(part.any() for part in parts), f"{name} must stand still"
            continue
        assert max(np.abs(part).max() for part in expected[name]) > 1e-3, name
        for ours, theirs in zip(parts, expected[name], strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-5, err_msg=name)


def encoder_step(networks, config=LOSS, *, play=True):
    restoration = steps.make_restoration_loss(config, PerceptualLoss("none"))
    return lambda optimizer: steps.make_private_encoder_step(
        networks.discriminator, networks.restorer, config, optimizer, restoration, play=play
    )


def joint_rows(networks, name, beta, gamma):
    weights = {
        "adapter": {"business": LOSS.alpha, "objective": beta, "restoration": gamma},
        "business": {"business": 1.0},
    }
    return [combined(row_gradients(networks, row, name), weights) for row in range(ROWS)]


@pytest.mark.parametrize(
    ("name", "clipping"),
    [
        ("confusion", "ghost"),
        ("confusion", "vectorized"),
        ("confusion", "per_example"),
        ("paper", "ghost"),
    ],
)
def test_private_encoder_update_is_clipped_sum_of_gradients(networks, name, clipping):
    rows = joint_rows(networks, name, BETA, LOSS.gamma)
    clip = middle_clip(rows)
    config = dataclasses.replace(LOSS, objective=name)
    moved, metrics = networks.update(
        networks.encoder,
        clip,
        encoder_step(networks, config),
        clipping=clipping,
        beta=[tf.constant(BETA)],
    )
    assert_moved(moved, clipped_mean(rows, clip))
    assert np.isfinite(metrics["encoder_loss"])


def test_private_encoder_update_without_game_uses_task_loss_only(networks):
    rows = joint_rows(networks, "confusion", 0.0, 0.0)
    clip = middle_clip(rows)
    config = dataclasses.replace(LOSS, gamma=0.0)
    make = encoder_step(networks, config, play=False)
    moved, _ = networks.update(networks.encoder, clip, make, beta=[tf.constant(BETA)])
    assert_moved(moved, clipped_mean(rows, clip))


@pytest.mark.parametrize("clipping", BACKENDS)
def test_private_pretraining_updates_adapter_and_classifier(networks, clipping):
    rows = joint_rows(networks, "confusion", 0.0, 0.0)
    clip = middle_clip(rows)
    make = steps.make_private_business_step
    moved, _ = networks.update(networks.encoder, clip, make, clipping=clipping)
    assert_moved(moved, clipped_mean(rows, clip))


@pytest.mark.parametrize("clipping", BACKENDS)
def test_private_discriminator_update_ignores_adapter_and_unlabelled_rows(networks, clipping):
    weights = {"discriminator": {"private": 1.0}}
    rows = [combined(row_gradients(networks, row), weights) for row in range(ROWS)]
    assert norm(rows[1]) == 0
    clip = middle_clip(rows)
    moved, _ = networks.update(
        networks.discriminator,
        clip,
        lambda o: steps.make_private_discriminator_step(
            networks.adapter, steps.make_discriminator_update(networks.discriminator, o)
        ),
        clipping=clipping,
    )
    assert_moved(moved, clipped_mean(rows, clip))


@pytest.mark.parametrize("clipping", BACKENDS)
def test_private_restorer_update_leaves_adapter(networks, clipping):
    weights = {"restorer": {"restoration": 1.0}}
    rows = [combined(row_gradients(networks, row), weights) for row in range(ROWS)]
    clip = middle_clip(rows)
    restoration = steps.make_restoration_loss(LOSS, PerceptualLoss("none"))
    moved, _ = networks.update(
        networks.restorer,
        clip,
        lambda o: steps.make_private_restorer_step(networks.adapter, o, restoration),
        clipping=clipping,
    )
    assert_moved(moved, clipped_mean(rows, clip))


def padded(networks, places=10):
    """Pads a batch with values that must not be read."""
    extra = places - ROWS
    grow = lambda part, fill: np.concatenate([part, np.full((extra, *part.shape[1:]), fill)])  # noqa: E731
    data = networks.data
    cached = grow(networks.cached, np.nan).astype(np.float32)
    return cached, Batch(
        image=grow(data.image, 255).astype(np.uint8),
        business={t: grow(v, 1).astype(np.int32) for t, v in data.business.items()},
        private=grow(data.private, 3).astype(np.int32),
        index=grow(data.index, -1),
        mask=np.arange(places) < ROWS,
    )


@pytest.mark.parametrize("kind", ["encoder", "business", "discriminator", "restorer"])
def test_private_update_ignores_content_of_padding(networks, kind):
    restoration = steps.make_restoration_loss(LOSS, PerceptualLoss("none"))
    adapter = networks.adapter
    model, make = {
        "encoder": (networks.encoder, encoder_step(networks)),
        "business": (networks.encoder, steps.make_private_business_step),
        "discriminator": (
            networks.discriminator,
            lambda o: steps.make_private_discriminator_step(
                adapter, steps.make_discriminator_update(networks.discriminator, o)
            ),
        ),
        "restorer": (
            networks.restorer,
            lambda o: steps.make_private_restorer_step(adapter, o, restoration),
        ),
    }[kind]
    beta = [tf.constant(BETA)] if kind == "encoder" else []
    cached, data = padded(networks)
    plain, figures = networks.update(model, 1.0, make, beta=beta)
    with_places, same = networks.update(model, 1.0, make, cached=cached, data=data, beta=beta)
    assert figures == pytest.approx(same, abs=1e-5)
    assert any(part.any() for parts in plain.values() for part in parts)
    for name, parts in plain.items():
        for ours, theirs in zip(with_places[name], parts, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-6, err_msg=name)


def test_private_update_of_empty_batch_changes_nothing(networks):
    data = networks.data._replace(mask=np.zeros(ROWS, bool))
    moved, figures = networks.update(
        networks.encoder, 1.0, encoder_step(networks), data=data, beta=[tf.constant(BETA)]
    )
    assert not any(part.any() for parts in moved.values() for part in parts)
    assert figures == {"encoder_loss": 0.0}
