"""Makes folders of finished runs to start from, without training."""

import dataclasses

import numpy as np

from tf_mtl_privacy.config import CONFIG_FILE, Config, DataConfig, ModelConfig, TrainConfig
from tf_mtl_privacy.files import private_dir, write_json
from tf_mtl_privacy.models.bundle import build_bundle, save_bundle
from tf_mtl_privacy.training.run_dir import RunLabels, write_labels

TASKS = {"gender": 2, "age": 4}
SHAPES = {
    "compact_width": 8,
    "feature_channels": 4,
    "business_units": 8,
    "discriminator": "dense",
    "discriminator_units": 8,
    "restorer_width": 8,
}


def config_of(model="mtl_adv", *, size=32, seed=1, data=None, **shapes):
    return Config(
        data=DataConfig(**{"image_size": size, "synthetic_stream": "backbone"} | (data or {})),
        model=ModelConfig(**(SHAPES | shapes)),
        train=TrainConfig(model=model, seed=seed),
    )


def finished_run(folder, config, tasks=None, classes=8):
    """Writes configuration, labels and networks of a run into `folder`; returns the networks."""
    private_dir(folder)
    write_json(folder / CONFIG_FILE, config.to_dict())
    _label(folder, config.data.dataset, tasks or TASKS, classes)
    bundle = build_bundle(config, tasks or TASKS, classes)
    save_bundle(bundle, folder / "models")
    return bundle


def starting_from(folder, config, **shapes):
    """Returns the configuration of a run with another seed that starts from `folder`."""
    model = dataclasses.replace(config.model, backbone=str(folder), **shapes)
    train = dataclasses.replace(config.train, seed=config.train.seed + 1)
    return dataclasses.replace(config, model=model, train=train)


def described_run(folder, config, source=None):
    """Makes a `finished_run` without networks: an empty file replaces the encoder's.

    `source` is the recorded training data, by default that of its configuration.
    """
    private_dir(folder / "models")
    write_json(folder / CONFIG_FILE, config.to_dict())
    _label(folder, config.data.dataset if source is None else source, TASKS, 8)
    (folder / "models" / "encoder.weights.h5").write_bytes(b"")
    return str(folder)


def _label(folder, source, tasks, classes):
    names = {task: tuple(map(str, range(count))) for task, count in tasks.items()}
    write_labels(folder, RunLabels(names, tuple(map(str, range(classes))), "print", source))


def assert_same(first, second):
    """Compares two dictionaries of arrays, which must not be empty."""
    assert first and first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
