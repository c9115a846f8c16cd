"""Predictions for picture files: the same figures as for prepared rows, and damaged files."""

import csv
import io
import json
import types

import keras
import numpy as np
import pytest
from PIL import Image

from tf_mtl_privacy.cli import predict
from tf_mtl_privacy.config import Config, DataConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.reporting.predictions import find_pictures
from tf_mtl_privacy.training.inference import predict_images

CLASSES = {"gender": ("female", "male"), "age": ("young", "old")}


@pytest.fixture(scope="module")
def run():
    image = keras.Input((32, 32, 3))
    cells = keras.layers.AveragePooling2D(4)(image)
    features = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(features)
    dense = {
        name: keras.layers.Dense(2, kernel_initializer=keras.initializers.GlorotUniform(seed))(flat)
        for seed, name in enumerate(CLASSES)
    }
    bundle = Bundle(
        keras.Model(image, cells),
        keras.Model(features, dense),
        restorer=keras.Model(features, keras.layers.UpSampling2D(4)(features)),
    )
    config = Config(DataConfig(image_size=32))
    return types.SimpleNamespace(config=config, task_classes=CLASSES, bundle=bundle, single_task={})


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    for name, image in zip(("a.png", "b/c.png", "z.png"), images, strict=True):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(tmp_path / name)
    (tmp_path / "m.jpg").write_bytes(b"no picture")
    return tmp_path, images


def _main(run, monkeypatch, **options):
    monkeypatch.setattr("tf_mtl_privacy.training.saved_run.load_run", lambda _: run)
    given = {"run_dir": "run", "server": "", "output": "", "restored_dir": "", **options}
    return predict.main(types.SimpleNamespace(options=types.SimpleNamespace(**given)))


def test_predict_files_matches_prepared_rows_at_any_batch_size(run, folder, monkeypatch):
    path, images = folder
    expected = predict_images(run.bundle, images).probabilities
    for batch_size in (1, 2, 64):
        monkeypatch.setattr(predict, "BATCH_SIZE", batch_size)
        found = predict.predict_files(run, find_pictures([str(path)]))
        assert [item.error is None for item in found] == [True, True, False, True]
        good = [item for item in found if item.error is None]
        for task, classes in CLASSES.items():
            values = [[item.probabilities[task][name] for name in classes] for item in good]
            np.testing.assert_allclose(values, expected[task], atol=1e-6)


def test_table_restored_images_and_exit_code(run, folder, monkeypatch, capsys):
    path, images = folder
    output, restored = path.parent / "new" / "out.csv", path.parent / "restored"
    code = _main(
        run, monkeypatch, input=(str(path),), output=str(output), restored_dir=str(restored)
    )
    rows = list(csv.DictReader(io.StringIO(output.read_text())))
    assert code == 0
    assert [row["file"].removeprefix(f"{path}/") for row in rows] == [
        "a.png",
        "b/c.png",
        "m.jpg",
        "z.png",
    ]
    for row in rows:
        if row["error"]:
            assert row["gender"] == ""
            continue
        assert float(row["gender:female"]) + float(row["gender:male"]) == pytest.approx(1, abs=2e-6)
        assert row["gender"] == max(CLASSES["gender"], key=lambda c: float(row[f"gender:{c}"]))
    made = sorted(str(p.relative_to(restored)) for p in restored.rglob("*.png"))
    assert made == ["a_restored.png", "b/c_restored.png", "z_restored.png"]
    pooled = images[2].reshape(8, 4, 8, 4, 3).mean((1, 3))
    found = np.asarray(Image.open(restored / "z_restored.png"))[::4, ::4]
    assert np.abs(found - pooled).max() <= 0.5 + 1e-3
    assert not [path for path in [restored, *restored.rglob("*")] if path.stat().st_mode & 0o077]
    assert "3 of 4 pictures read; first that failed" in capsys.readouterr().out


def test_predict_without_a_readable_picture_fails_and_writes_the_table(run, folder, monkeypatch):
    path, _ = folder
    output = path / "out.json"
    code = _main(run, monkeypatch, input=(str(path / "m.jpg"),), output=str(output))
    (row,) = json.loads(output.read_text())
    assert code == 1 and row["attributes"] is None and "not a" in row["error"]


def test_json_has_class_and_probabilities(run, folder, monkeypatch):
    path, _ = folder
    _main(run, monkeypatch, input=(str(path / "a.png"),), output=str(path / "out.json"))
    (row,) = json.loads((path / "out.json").read_text())
    probabilities = row["attributes"]["age"]["probabilities"]
    assert row["error"] is None and set(probabilities) == {"young", "old"}
    assert row["attributes"]["age"]["class"] == max(probabilities, key=probabilities.get)


def test_wrong_requests(run, folder, monkeypatch):
    path, _ = folder
    with pytest.raises(UsageError, match=r"--output=.*out\.txt: expected a name that ends in"):
        _main(run, monkeypatch, input=(str(path),), output=str(path / "out.txt"))
    single = types.SimpleNamespace(**vars(run))
    single.bundle = Bundle(run.bundle.encoder, run.bundle.business)
    with pytest.raises(UsageError, match="has no restorer"):
        _main(single, monkeypatch, input=(str(path),), output="o.csv", restored_dir="r")


def test_single_task_networks_predict_their_own_task(run, folder):
    path, images = folder
    inputs, outputs = run.bundle.business.input, run.bundle.business.output
    single = types.SimpleNamespace(**vars(run))
    single.single_task = {
        task: Bundle(run.bundle.encoder, keras.Model(inputs, {task: outputs[task]}))
        for task in CLASSES
    }
    (found,) = predict.predict_files(single, find_pictures([str(path / "a.png")]))
    expected = predict_images(run.bundle, images[:1]).probabilities
    for task, classes in CLASSES.items():
        values = [found.probabilities[task][name] for name in classes]
        np.testing.assert_allclose(values, expected[task][0], atol=1e-6)
