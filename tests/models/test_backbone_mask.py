"""Starting from a run with a mask, without one, or with another one."""

import dataclasses

import numpy as np
import pytest

from tests.models.run_folders import TASKS, assert_same, config_of, finished_run, starting_from
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.models.backbone import load_backbone, split_encoder
from tf_mtl_privacy.models.bundle import build_bundle, load_bundle_weights, save_bundle
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.removal.mask import has_mask, is_masked, mask_map, region_finder, switch_mask

MASK = RemovalConfig(mask="learned", mask_width=4, region_labels="train")
IMAGES = np.random.default_rng(0).uniform(0, 1, (3, 32, 32, 3)).astype(np.float32)


def values(encoder, *, mask):
    """Returns weights by path, of the mask or of everything else."""
    result = {weight.path: weight.numpy() for weight in encoder.weights}
    return {path: value for path, value in result.items() if path.startswith("mask_") == mask}


def config_with(removal, **shapes):
    return dataclasses.replace(config_of(**shapes), removal=removal)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder and encoder of a finished run with a mask and of one without."""
    result = {}
    for name, removal in (("masked", MASK), ("bare", RemovalConfig())):
        folder = tmp_path_factory.mktemp(name)
        result[name] = folder, finished_run(folder, config_with(removal)).encoder
    return result


def started(folder, removal, seed=2):
    encoder = build_encoder(config_of().model, 32, seed=seed, removal=removal)
    load_backbone(encoder, folder)
    return encoder


def test_encoder_with_mask_starts_from_run_without_one(runs):
    folder, theirs = runs["bare"]
    ours = started(folder, MASK)
    fresh = build_encoder(config_of().model, 32, seed=2, removal=MASK)
    assert_same(values(ours, mask=False), values(theirs, mask=False))
    assert_same(values(ours, mask=True), values(fresh, mask=True))
    np.testing.assert_array_equal(ours(IMAGES), theirs(IMAGES))


def test_encoder_without_mask_starts_from_run_with_one(runs):
    folder, theirs = runs["masked"]
    ours = started(folder, RemovalConfig())
    assert not has_mask(ours)
    assert_same(values(ours, mask=False), values(theirs, mask=False))


def test_mask_of_same_shape_is_taken_over(runs):
    folder, theirs = runs["masked"]
    ours = started(folder, MASK)
    for mask in (True, False):
        assert_same(values(ours, mask=mask), values(theirs, mask=mask))


@pytest.mark.parametrize("change", [{"mask_width": 6}, {"mask_cell": 4}])
def test_mask_of_other_shape_is_ignored(runs, change):
    """With cells of 4 pixels only the first layer differs."""
    folder, theirs = runs["masked"]
    other = dataclasses.replace(MASK, **change)
    ours = started(folder, other)
    fresh = build_encoder(config_of().model, 32, seed=2, removal=other)
    assert_same(values(ours, mask=True), values(fresh, mask=True))
    assert_same(values(ours, mask=False), values(theirs, mask=False))


def test_bundle_starts_from_run_with_or_without_mask(runs):
    for name, removal in (("masked", RemovalConfig()), ("bare", MASK)):
        folder, theirs = runs[name]
        config = starting_from(folder, config_with(removal))
        ours = build_bundle(config, TASKS, 8).encoder
        assert_same(values(ours, mask=False), values(theirs, mask=False))


@pytest.mark.parametrize("on", [True, False])
def test_mask_switch_is_saved_with_weights(tmp_path, on):
    source, target = (build_bundle(config_with(MASK, seed=s), TASKS, 8) for s in (1, 2))
    switch_mask(source.encoder, on=on)
    switch_mask(target.encoder, on=not on)
    save_bundle(source, tmp_path)
    load_bundle_weights(target, tmp_path)
    assert is_masked(target.encoder) == on
    np.testing.assert_array_equal(target.encoder(IMAGES), source.encoder(IMAGES))


def test_model_without_game_has_no_mask():
    for model in ("mtl_dp", "stl"):
        assert not has_mask(build_bundle(config_with(MASK, model=model), TASKS, 8).encoder)


@pytest.mark.parametrize("pixel_path", [True, False])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("erasure", ["none", "leace"])
def test_split_encoder_with_removal_equals_whole(pixel_path, mask, erasure):
    removal = dataclasses.replace(MASK if mask else RemovalConfig(), erasure=erasure)
    model = dataclasses.replace(config_of().model, pixel_path=pixel_path)
    encoder = build_encoder(model, 32, seed=1, removal=removal, private_classes=3)
    rng = np.random.default_rng(1)
    if mask:
        last = [layer for layer in region_finder(encoder).layers if layer.weights][-1]
        last.kernel.assign(rng.normal(0, 1, last.kernel.shape))
        last.bias.assign(np.zeros(last.bias.shape))
        switch_mask(encoder, on=True)
        assert 0.0 < np.mean(mask_map(encoder)(IMAGES)) < 1.0
    if erasure == "leace":
        layer = encoder.get_layer("adapter_erasure")
        for weight in layer.weights:
            weight.assign(rng.normal(0, 0.1, weight.shape))
    backbone, adapter = split_encoder(encoder)
    features = backbone(IMAGES, training=False)
    assert features.shape[1:] == backbone.output_shape[1:]
    whole, together = encoder(IMAGES, training=False), adapter(features, training=False)
    assert whole.shape == together.shape
    np.testing.assert_allclose(together, whole, rtol=1e-5, atol=1e-5)
    assert {id(w) for w in encoder.weights} == {id(w) for w in backbone.weights + adapter.weights}
    assert all(w.path.startswith("adapter_") for w in adapter.weights)
