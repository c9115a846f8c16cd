"""The examples run, and those of the page train as well as tensorflow-privacy."""

import functools
import re
import runpy

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy import assert_rows_independent


@pytest.fixture(scope="module")
def compare(repo_root):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(repo_root / "examples")
        return runpy.run_path(str(repo_root / "examples" / "compare.py"))


@pytest.mark.parametrize(
    ("name", "pattern", "low", "high"),
    [
        ("dp_adam", r"accuracy ([\d.]+)", 0.8, 1.0),
        ("dp_adam", r"epsilon ([\d.]+) at delta 1e-05", 2.9, 3.0),
        ("dp_sgd_fit", r"accuracy ([\d.]+), 225 updates", 0.8, 1.0),
        ("custom_layer", r"largest update: ([\d.]+)", 0.05, 1.0),
        ("custom_layer", r"ghost and vectorized: ([\d.e+-]+)", 0.0, 1e-6),
    ],
)
def test_example_prints_the_figure_it_promises(printed, name, pattern, low, high):
    assert low <= float(re.search(pattern, printed(name))[1]) <= high


@pytest.fixture(scope="module")
def printed(repo_root, session_python):
    @functools.cache
    def run(name):
        done = session_python(repo_root / "examples" / f"{name}.py")
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return run


def test_readme_names_every_block_with(repo_root):
    folder = repo_root / "examples"
    text = (folder / "README.md").read_text(encoding="utf-8")
    scripts = {path.name for path in folder.glob("*.py")} - {"digits.py"}
    assert scripts == set(re.findall(r"\]\((\w+\.py)\)", text)) and len(scripts) > 2


def block_with(page, word="DPAdam"):
    """The one block of Python on a page that has this word in it."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if word in block]
    return code


def test_ten_lines_of_the_page_train_a_classifier(repo_root, compare):
    code = block_with(repo_root / "docs" / "dp-optimizer.md")
    lines = [line for line in code.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 10
    images, labels, test_images, test_labels = compare["digits"]()
    names = {"images": images, "labels": labels}
    exec(code, names)
    predicted = np.argmax(names["model"](test_images), axis=1)
    assert np.mean(predicted == test_labels) > 0.8
    assert names["optimizer"].void is None


def test_train_step_of_the_page_trains_in_fit(repo_root, compare):
    images, labels, _, _ = compare["digits"]()
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
    exec(block_with(repo_root / "docs" / "dp-optimizer.md", "train_step"), names)
    assert names["trained"].private.iterations == 256 / 32
    after = [v.numpy() for v in names["model"].trainable_variables]
    assert all((old != new).any() for old, new in zip(before, after, strict=True))


def test_trial_of_the_page_finds_encoders_and_losses_that_mix_rows(repo_root):
    code = block_with(repo_root / "docs" / "dp-optimizer.md", "assert_rows_independent")
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
        with pytest.raises(UsageError, match="influence each other"):
            exec(code, names | mixing)


@pytest.mark.slow
def test_ghost_learns_as_much_as_tensorflow_privacy(compare):
    accuracy = {
        way: compare["train"](way, 15)["accuracy"]
        for way in ("plain Adam", "tensorflow-privacy", "ghost")
    }
    assert accuracy["plain Adam"] > 0.93
    assert accuracy["ghost"] > 0.75
    assert abs(accuracy["ghost"] - accuracy["tensorflow-privacy"]) < 0.08
