"""Starting from another run's networks, and splitting an encoder in two."""

import dataclasses
import shutil

import keras
import numpy as np
import pytest

from tests.models.run_folders import TASKS, assert_same, config_of, finished_run, starting_from
from tf_mtl_privacy.config import CONFIG_FILE, ModelConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.models.backbone import load_backbone, split_encoder, start_heads
from tf_mtl_privacy.models.bundle import build_bundle, save_bundle
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.training import run_dir as folders
from tf_mtl_privacy.training.saved_run import load_run

RNG = np.random.default_rng(0)
HEADS = ("business", "discriminator", "restorer")


def images(size, rows=3):
    return RNG.uniform(0, 1, (rows, size, size, 3)).astype(np.float32)


def values(model, adapter=None):
    """Returns weights by path: all, those of the adapter, or all but those."""
    return {
        weight.path: weight.numpy()
        for weight in model.weights
        if adapter is None or weight.path.startswith("adapter_") == adapter
    }


def differ(first, second):
    return any(not np.array_equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Makes (folder, configuration, networks) of a finished run."""
    folder = tmp_path_factory.mktemp("source")
    config = config_of()
    return folder, config, finished_run(folder, config)


def parts_of(name):
    encoder = build_encoder(ModelConfig(encoder=name, freeze_backbone=False), 64, seed=1)
    for layer in encoder.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            # As after training: statistics that differ from the batch's.
            shape = layer.moving_mean.shape
            layer.moving_mean.assign(RNG.normal(0, 0.3, shape))
            layer.moving_variance.assign(RNG.uniform(0.5, 2.0, shape))
    return encoder, *split_encoder(encoder)


@pytest.mark.parametrize("name", ["compact", "mobilenet_v2"])
def test_backbone_and_adapter_are_the_encoder(name):
    encoder, backbone, adapter = parts_of(name)
    x = images(64)
    features = backbone(x, training=False)
    assert features.shape[1:] == backbone.output_shape[1:]
    whole, put_together = encoder(x, training=False), adapter(features, training=False)
    np.testing.assert_allclose(put_together, whole, rtol=1e-6, atol=1e-6)
    # A row's features do not depend on the other rows.
    other = np.concatenate([x[:1], images(64, 2)])
    np.testing.assert_allclose(backbone(other, training=False)[:1], features[:1], atol=1e-5)


@pytest.mark.parametrize("name", ["compact", "mobilenet_v2"])
def test_split_encoder_shares_all_weights(name):
    encoder, backbone, adapter = parts_of(name)
    assert {id(w) for w in encoder.weights} == {id(w) for w in backbone.weights + adapter.weights}
    assert [w.path for w in adapter.trainable_variables] == [
        "adapter_conv/kernel",
        "adapter_conv/bias",
        "adapter_norm/gamma",
        "adapter_norm/beta",
    ]
    x = images(64)
    before = encoder(x, training=False).numpy()
    adapter.get_layer("adapter_conv").kernel.assign(adapter.get_layer("adapter_conv").kernel * -2.0)
    after = encoder(x, training=False).numpy()
    assert np.abs(after - before).max() > 0.1
    np.testing.assert_allclose(adapter(backbone(x, training=False)), after, rtol=1e-6, atol=1e-6)


def test_encoder_starts_from_all_weights_of_run(source):
    folder, config, theirs = source
    encoder = build_encoder(config.model, 32, seed=2)
    assert differ(values(encoder), values(theirs.encoder))
    load_backbone(encoder, folder)
    assert_same(values(encoder), values(theirs.encoder))


def test_adapter_of_other_width_keeps_its_weights(source):
    folder, config, theirs = source
    wide = dataclasses.replace(config.model, feature_channels=6)
    fresh = build_encoder(wide, 32, seed=2)
    loaded = build_encoder(dataclasses.replace(wide, backbone=str(folder)), 32, seed=2)
    assert_same(values(loaded, adapter=True), values(fresh, adapter=True))
    assert_same(values(loaded, adapter=False), values(theirs.encoder, adapter=False))


@pytest.mark.parametrize(
    ("shapes", "size", "problem"),
    [
        ({"compact_width": 16}, 32, "layer stem has shapes 5x5x3x8 8, expected 5x5x3x16 16"),
        ({"feature_stride": 8}, 32, "it has no layer down8"),
        ({"encoder": "mobilenet_v2"}, 64, "it has no layer Conv1"),
    ],
)
def test_backbone_of_other_shape_is_refused(source, shapes, size, problem):
    folder, config, _ = source
    encoder = build_encoder(dataclasses.replace(config.model, **shapes), size)
    before = values(encoder)
    with pytest.raises(UsageError, match=f"--backbone={folder} does not fit.*{problem}") as error:
        load_backbone(encoder, folder)
    assert "--feature_stride" in str(error.value) and "\n" not in str(error.value)
    assert_same(values(encoder), before)


def test_backbone_with_extra_layers_is_refused(tmp_path, source):
    finished_run(tmp_path, config_of(feature_stride=8))
    encoder = build_encoder(source[1].model, 32)
    with pytest.raises(UsageError, match=f"--backbone={tmp_path} does not fit this encoder"):
        load_backbone(encoder, tmp_path)


def test_backbone_from_unfinished_run_is_refused(tmp_path, source):
    encoder = build_encoder(source[1].model, 32)
    cases = {}
    cases["nothing"] = r"is not a run folder \(no config.json\)"
    cases["stl"] = "a single-task run has an encoder per task"
    (tmp_path / "stl").mkdir()
    write_json(tmp_path / "stl" / CONFIG_FILE, config_of("stl").to_dict())
    cases["unfinished"] = "its training is not finished"
    (tmp_path / "unfinished").mkdir()
    write_json(tmp_path / "unfinished" / CONFIG_FILE, config_of().to_dict())
    cases["other"] = "no option 'colour'"
    (tmp_path / "other").mkdir()
    write_json(tmp_path / "other" / CONFIG_FILE, {"model": {"colour": 1}})
    cases["broken"] = "config.json"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / CONFIG_FILE).write_text("{")
    cases["damaged"] = "encoder.weights.h5: not a readable Keras weights file"
    shutil.copytree(source[0], tmp_path / "damaged")
    (tmp_path / "damaged" / "models" / "encoder.weights.h5").write_bytes(b"no weights")
    for name, problem in cases.items():
        before = values(encoder)
        with pytest.raises(UsageError, match=f"--backbone={tmp_path / name}: .*{problem}") as error:
            load_backbone(encoder, tmp_path / name)
        assert "\n" not in str(error.value)
        assert_same(values(encoder), before)


def heads(tasks, classes):
    bundle = build_bundle(config_of(seed=2), tasks, classes)
    return {name: getattr(bundle, name) for name in HEADS}


@pytest.mark.parametrize(
    ("tasks", "classes", "started"),
    [
        (TASKS, 8, HEADS),
        ({"gender": 2, "smile": 2}, 8, ("discriminator", "restorer")),
        ({"gender": 2, "age": 3}, 8, ("discriminator", "restorer")),
        (TASKS, 5, ("business", "restorer")),
        ({"gender": 2}, 5, ("business", "restorer")),
    ],
)
def test_head_starts_from_run_only_if_all_fits(source, tasks, classes, started):
    folder, _, theirs = source
    ours, fresh = heads(tasks, classes), heads(tasks, classes)
    assert start_heads(ours, folder) == started
    for name in HEADS:
        expected = values(getattr(theirs, name) if name in started else fresh[name])
        # Logits of unknown tasks are ignored.
        actual = values(ours[name])
        assert_same(actual, {path: expected[path] for path in actual})


def test_head_missing_in_run_keeps_its_weights(tmp_path, source):
    shutil.copytree(source[0], tmp_path / "run")
    (tmp_path / "run" / "models" / "restorer.weights.h5").unlink()
    assert start_heads(heads(TASKS, 8), tmp_path / "run") == ("business", "discriminator")


@pytest.mark.parametrize("with_heads", [True, False])
def test_bundle_starts_from_backbone(source, with_heads):
    folder, config, theirs = source
    ours = build_bundle(starting_from(folder, config, backbone_heads=with_heads), TASKS, 8)
    fresh = build_bundle(config_of(seed=config.train.seed + 1), TASKS, 8)
    assert_same(values(ours.encoder), values(theirs.encoder))
    for name in HEADS:
        assert_same(
            values(getattr(ours, name)), values(getattr(theirs if with_heads else fresh, name))
        )


def test_fully_private_bundle_trains_only_adapter_of_encoder(source):
    folder, config, _ = source
    config = starting_from(folder, config_of("mtl_adv_dp"))
    free = build_bundle(config, TASKS, 8)
    privacy = dataclasses.replace(config.privacy, dp_scope="all")
    frozen = build_bundle(dataclasses.replace(config, privacy=privacy), TASKS, 8)
    names = {weight.path.split("/")[0] for weight in frozen.encoder.trainable_variables}
    assert names == {"adapter_conv", "adapter_norm"}
    assert len(free.encoder.trainable_variables) > len(frozen.encoder.trainable_variables)
    for name in HEADS:
        assert getattr(frozen, name).trainable_variables == getattr(frozen, name).weights


def test_load_run_needs_no_backbone(tmp_path, source):
    backbone, run = tmp_path / "backbone", tmp_path / "run"
    shutil.copytree(source[0], backbone)
    config = starting_from(backbone, config_of("mtl_adv_dp"))
    config = dataclasses.replace(
        config, privacy=dataclasses.replace(config.privacy, dp_scope="all")
    )
    bundle = build_bundle(config, TASKS, 8)
    run.mkdir()
    write_json(run / CONFIG_FILE, config.to_dict())
    names = {task: tuple(map(str, range(count))) for task, count in TASKS.items()}
    folders.write_labels(run, folders.RunLabels(names, tuple("abcdefgh"), "print"))
    write_json(run / folders.STATUS_FILE, {"dp": {}})
    save_bundle(bundle, run / "models")
    shutil.rmtree(backbone)
    loaded = load_run(run)
    assert loaded.config == config
    for name, model in bundle.items():
        assert_same(values(getattr(loaded.bundle, name)), values(model))
