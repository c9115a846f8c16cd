"""The pages' example trains, as well as tensorflow-privacy and nearly as plain Adam."""

import re
import runpy

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import assert_rows_independent


@pytest.fixture(scope="module")
def bench(repo_root):
    return runpy.run_path(str(repo_root / "benchmarks" / "dp_example.py"))


def example(page, word="DPAdam"):
    """The one block of Python on a page that has this word in it."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if word in block]
    return code


def test_the_ten_lines_of_the_page_train_a_classifier(repo_root, bench):
    code = example(repo_root / "docs" / "dp-optimizer.md")
    lines = [line for line in code.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 10
    images, labels, test_images, test_labels = bench["digits"]()
    names = {"images": images, "labels": labels}
    exec(code, names)
    found = np.argmax(names["model"](test_images), axis=1)
    assert np.mean(found == test_labels) > 0.8
    assert names["optimizer"].void is None


def test_the_page_s_train_step_trains_in_fit(repo_root, bench):
    images, labels, _, _ = bench["digits"]()
    layers = [keras.Input((64,)), keras.layers.Dense(10)]
    names = {
        "keras": keras,
        "tf": tf,
        "model": keras.Sequential(layers),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none"),
        "images": images[:256],
        "labels": labels[:256],
    }
    before = [v.numpy() for v in names["model"].trainable_variables]
    exec(example(repo_root / "docs" / "dp-optimizer.md", "train_step"), names)
    assert names["trained"].private.iterations == 256 / 32
    after = [v.numpy() for v in names["model"].trainable_variables]
    assert all((old != new).any() for old, new in zip(before, after, strict=True))


def test_the_page_s_trial_takes_encoder_and_loss_and_finds_what_mixes_rows(repo_root):
    code = example(repo_root / "docs" / "dp-optimizer.md", "assert_rows_independent")
    names = {
        "assert_rows_independent": assert_rows_independent,
        "model": keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]),
        "encoder": lambda rows, training: tf.tanh(rows),
        "images": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32),
        "labels": np.array([0, 2, 1, 2, 0]),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none"),
    }
    exec(code, names)

    def centred(labels, outputs, loss=names["loss"]):
        values = loss(labels, outputs)
        return values - tf.reduce_mean(values)

    for mixing in (
        {"loss": centred},
        {"encoder": lambda rows, training: rows - tf.reduce_mean(rows, 0)},
    ):
        with pytest.raises(UsageError, match="touch each other"):
            exec(code, names | mixing)


@pytest.mark.slow
def test_it_learns_as_much_as_tensorflow_privacy_untouched(bench):
    accuracy = {
        way: bench["train"](way, 15)["accuracy"]
        for way in ("plain Adam", "tensorflow-privacy", "ghost")
    }
    assert accuracy["plain Adam"] > 0.93
    assert accuracy["ghost"] > 0.75
    assert abs(accuracy["ghost"] - accuracy["tensorflow-privacy"]) < 0.08
