"""Device files: conversion to TensorFlow Lite and ONNX, checks, and measured accuracy."""

import functools
import types

import numpy as np
import onnx
import pytest

from tests.fakes.pictures import picture
from tests.serving.exports import TASKS
from tests.training.tiny import tiny_arrays
from tf_mtl_privacy.config import Config, DataConfig
from tf_mtl_privacy.data.fingerprints import fingerprint_key, keyed
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.export import conversion
from tf_mtl_privacy.export.device_files import (
    DEVICE_FORMATS,
    check_dataset,
    check_run,
    compare_predictions,
)
from tf_mtl_privacy.training.inference import predict_images

IMAGES = np.stack([picture(seed, 32, 32) for seed in range(12)])


# Offset and first bytes of each format: TensorFlow Lite's identifier, ONNX's format version.
BEGINNINGS = {"float16": (4, b"TFL3"), "int8": (4, b"TFL3"), "onnx": (0, b"\x08")}


@pytest.fixture(scope="module")
def convert(covered):
    return functools.cache(lambda kind: DEVICE_FORMATS[kind].convert(covered, IMAGES))


@pytest.mark.parametrize(("kind", "tolerance"), [("float16", 0.02), ("int8", 0.5), ("onnx", 1e-5)])
def test_converted_run_is_close_to_the_run(covered, convert, kind, tolerance):
    content = convert(kind)
    start, mark = BEGINNINGS[kind]
    assert content[start : start + len(mark)] == mark
    found = DEVICE_FORMATS[kind].reader(content)(IMAGES)
    expected = predict_images(covered.bundle, IMAGES).probabilities
    assert set(found) == {f"{task}_probabilities" for task in TASKS}
    for task, values in expected.items():
        answers = found[f"{task}_probabilities"]
        assert answers.shape == values.shape and np.abs(answers - values).max() < tolerance
        np.testing.assert_allclose(answers.sum(1), 1, atol=0.02)
        # The answers depend on the pictures as the run's do.
        assert np.corrcoef(answers[:, 0], values[:, 0])[0, 1] > 0.7


def test_onnx_file_is_valid_and_accepts_any_batch_size(convert):
    content = convert("onnx")
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 17
    read = DEVICE_FORMATS["onnx"].reader(content)
    for name, whole in read(IMAGES).items():
        parts = np.concatenate([read(IMAGES[:1])[name], read(IMAGES[1:])[name]])
        np.testing.assert_allclose(parts, whole, atol=1e-6)


@pytest.mark.parametrize("kind", DEVICE_FORMATS)
def test_check_run_noise_on_features_is_refused(noisy, kind):
    with pytest.raises(UsageError, match=f"{DEVICE_FORMATS[kind].flag}: .*--feature_noise=0.5"):
        check_run(noisy, kind)


def test_check_run_missing_package_is_named(covered, monkeypatch):
    monkeypatch.setattr(conversion.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"--onnx needs the package tf2onnx: .*\[onnx\]"):
        check_run(covered, "onnx")


def test_compare_predictions_matches_hand_computed_values():
    labels = {"gender": np.array([0, 1, 1, -1])}
    device = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7]])
    original = np.array([[0.8, 0.2], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    result = compare_predictions(
        {"gender_probabilities": device}, {"gender": original}, labels, {"gender": ("f", "m")}
    )["gender"]
    assert result["device"]["accuracy"] == pytest.approx(2 / 3) and result["device"]["n"] == 3
    assert result["original"]["accuracy"] == 1.0
    assert result["agreement"] == 0.75


def test_check_dataset_keyed_fingerprint_needs_its_key(tmp_path):
    dataset = tiny_arrays(20, cache_dir=str(tmp_path / "here"))
    config = Config(DataConfig(cache_dir=str(tmp_path / "gone")))
    key = fingerprint_key(tmp_path / "there")

    def check(recorded):
        run = types.SimpleNamespace(
            run_dir="runs/x", config=config, data_fingerprint=recorded, bundle=None
        )
        check_dataset(run, dataset, "float16")

    with pytest.raises(UsageError, match=r"cannot tell if the data of runs/x .*fingerprint.key"):
        check(keyed(dataset.digest, key))
    with pytest.raises(UsageError, match="the data of runs/x has changed"):
        check("5e" * 32)
    # The next check fails, so the data was recognised as the run's.
    for known in (dataset.fingerprint, dataset.digest, ""):
        with pytest.raises(UsageError, match="data has no test rows"):
            check(known)
