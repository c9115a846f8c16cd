"""With `--dp_scope=all` released weights depend on training rows only through DP-SGD."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from tests.models.run_folders import config_of, finished_run
from tests.training.tiny_private import all_private_config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.privacy.optimizer import DPOptimizer
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.saved_run import load_run

# Which rows a weight depends on is the same with and without a graph.
pytestmark = pytest.mark.usefixtures("untraced")
TASKS = {"gender": 2, "age": 4}
TRAIN, HELD_OUT = 40, 20


def dataset(seed):
    """Returns training rows that depend on the seed; validation and test rows do not."""
    own, same = np.random.default_rng(seed), np.random.default_rng(0)

    def column(draw):
        return np.concatenate([draw(own, TRAIN), draw(same, 2 * HELD_OUT)])

    def labels(classes):
        return column(lambda g, n: g.integers(0, classes, n))

    return Dataset.from_arrays(
        column(lambda g, n: g.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)),
        {task: labels(classes) for task, classes in TASKS.items()},
        labels(8),
        split=np.repeat([0, 1, 2], [TRAIN, HELD_OUT, HELD_OUT]),
        task_classes={task: tuple(map(str, range(classes))) for task, classes in TASKS.items()},
        private_classes=tuple("abcdefgh"),
    )


def without_steps(self, inputs, per_example_loss, mask=None, **_):
    """Replaces an update by one that changes and reveals nothing."""
    return tf.zeros(tf.shape(mask))


@pytest.fixture
def config(tmp_path):
    finished_run(tmp_path / "backbone", config_of(), TASKS)
    config = all_private_config(
        "", tmp_path / "backbone", business_epochs=1, discriminator_epochs=1
    )
    model = dataclasses.replace(config.model, backbone_heads=False)
    return dataclasses.replace(config, model=model)


def train(config, seed, folder):
    """Returns (weights, training.json without times, metrics.jsonl, checkpointed variables)."""
    fit(config, dataset(seed), run_dir=folder, test_key=1)
    run = load_run(folder)
    weights = {
        f"{name}/{weight.path}": weight.numpy()
        for name, model in run.bundle.items()
        for weight in model.variables
    }
    status = json.loads(json.dumps(run.status))
    status["training"].pop("seconds")
    for phase in status["training"]["phases"].values():
        phase.pop("seconds")
    latest = tf.train.load_checkpoint(str(folder / "checkpoints"))
    saved = {
        name: latest.get_tensor(name)
        for name in latest.get_variable_to_shape_map()
        if not name.startswith(("record", "layout", "_CHECKPOINTABLE", "save_counter"))
    }
    return weights, status, (folder / "metrics.jsonl").read_text(), saved


def assert_same(first, second):
    assert first and first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def test_run_without_private_updates_is_independent_of_training_rows(config, tmp_path, monkeypatch):
    monkeypatch.setattr(DPOptimizer, "minimize", without_steps)
    first, second = (train(config, seed, tmp_path / str(seed)) for seed in (1, 2))
    assert_same(first[0], second[0])
    assert first[1] == second[1]
    assert first[2] == second[2] and len(first[2].splitlines()) == 6
    assert_same(first[3], second[3])
    assert any("optimizer" in name for name in first[3])


@pytest.mark.slow
def test_accounted_updates_depend_on_training_rows(config, tmp_path):
    """The control for the test above."""
    first, second = (train(config, seed, tmp_path / str(seed)) for seed in (1, 2))
    moved = {name for name in first[0] if not np.array_equal(first[0][name], second[0][name])}
    still = {n for n in first[0] if n.startswith("encoder/") and "adapter_" not in n}
    assert moved == set(first[0]) - still
    # The metrics hold losses of training rows: they are not released.
    assert first[2] != second[2]
