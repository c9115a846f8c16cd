"""Weights and runs that a training starts from: where they are looked for, and what is said."""

import io
import socket
import urllib.error
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.start_files import check_start_files, fetch_failure, imagenet_file
from tf_mtl_privacy.training.perceptual import PerceptualLoss

MAKERS = {
    "resnet50": keras.applications.ResNet50,
    "mobilenet_v2": keras.applications.MobileNetV2,
    "vgg16": keras.applications.VGG16,
}


class Asked(Exception):  # noqa: N818 - no error
    """Raised instead of a download: (name of the file, its address, its folder)."""


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("name", MAKERS)
def test_imagenet_file_matches_keras(monkeypatch, name, size):
    def get_file(fname, origin, cache_subdir="datasets", **options):
        assert options.get("cache_dir") is None
        raise Asked(fname, origin, cache_subdir)

    monkeypatch.setattr(keras.src.utils.file_utils, "get_file", get_file)
    with pytest.raises(Asked) as asked:
        MAKERS[name](
            include_top=False, weights="imagenet", input_tensor=keras.Input((size,) * 2 + (3,))
        )
    fname, origin, folder = asked.value.args
    home = Path(keras.src.backend.config.keras_home())
    assert imagenet_file(name) == (home / folder / fname, origin)


def config(encoder="compact", size=64, **options):
    names = {field for field in ("encoder_weights", "backbone") if field in options}
    return Config(
        data=DataConfig(image_size=size),
        model=ModelConfig(encoder=encoder, **{name: options.pop(name) for name in names}),
        loss=LossConfig(**options),
    )


@pytest.fixture
def keras_home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    return tmp_path / "keras"


@pytest.fixture
def offline(monkeypatch, keras_home):
    """Simulates a missing network; returns the list of requested addresses."""
    asked = []

    def urlopen(request, timeout):
        asked.append((request.get_method(), request.full_url))
        raise urllib.error.URLError(socket.gaierror(-2, "Name or service not known"))

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    return asked


def test_check_start_files_offline_names_file_address_and_remedy(offline, keras_home):
    with pytest.raises(RunError) as error:
        check_start_files(config("resnet50", encoder_weights="auto", perceptual_weights="auto"))
    text = str(error.value)
    assert [method for method, _ in offline] == ["HEAD", "HEAD"]
    for (_, url), flag in zip(offline, ("encoder_weights", "perceptual_weights"), strict=True):
        cached = keras_home / "models" / url.rpartition("/")[2]
        assert f"--{flag}=imagenet: {cached} is not there and {url} cannot be fetched" in text
        assert f"--{flag}=FILE" in text and f"--{flag}=none" in text
    assert text.count("(Name or service not known)") == 2 and "\n" not in text


def test_check_start_files_offline_with_a_cached_file_makes_no_request(offline, keras_home):
    (keras_home / "models").mkdir(parents=True)
    for name in ("resnet50", "vgg16"):
        imagenet_file(name)[0].touch()
    check_start_files(config("resnet50", encoder_weights="auto", perceptual_weights="auto"))
    assert offline == []


def test_check_start_files_answering_server_is_left_to_keras(monkeypatch, keras_home):
    def refuse(request, timeout):
        raise urllib.error.HTTPError(request.full_url, 405, "no HEAD", None, io.BytesIO())

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    check_start_files(config("resnet50", encoder_weights="imagenet"))


@pytest.mark.parametrize(
    "options",
    [
        {"encoder_weights": "auto", "perceptual_weights": "auto"},
        {"encoder": "resnet50", "encoder_weights": "none", "perceptual_weights": "auto"},
        {"perceptual_weights": "imagenet", "perceptual_weight": 0.0},
    ],
)
def test_check_start_files_without_pretrained_weights_makes_no_request(offline, options):
    check_start_files(config(**options))
    assert offline == []


def test_check_start_files_names_all_missing_files(offline, tmp_path):
    with pytest.raises(UsageError) as error:
        check_start_files(config(backbone=str(tmp_path / "run"), perceptual_weights="vgg.h5"))
    assert f"--backbone={tmp_path / 'run'}" in str(error.value)
    assert "--perceptual_weights=vgg.h5: no such file" in str(error.value)
    with pytest.raises(UsageError, match=r"--encoder_weights=w\.h5: no such file.*perceptual"):
        check_start_files(config(encoder_weights="w.h5", perceptual_weights="imagenet"))


def test_check_start_files_backbone_must_be_finished(tmp_path):
    write_json(tmp_path / "config.json", tiny_config("mtl_dp").to_dict())
    with pytest.raises(UsageError, match="is not finished"):
        check_start_files(config(backbone=str(tmp_path)))
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "encoder.weights.h5").touch()
    check_start_files(config(backbone=str(tmp_path)))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(111, "Connection refused"), "Connection refused"),
        (urllib.error.URLError(TimeoutError("timed out")), "timed out"),
        (Exception("URL fetch failure on http://x: None -- [Errno -2] Name\n"), "[Errno -2] Name"),
        (ValueError(), "ValueError"),
    ],
)
def test_fetch_failure_is_a_few_words(error, words):
    assert fetch_failure(error) == words


def test_check_start_files_stl_needs_no_perceptual_weights(offline):
    stl = Config(train=TrainConfig(model="stl"), loss=LossConfig(perceptual_weights="imagenet"))
    check_start_files(stl)
    assert offline == []


def unreachable(fname, origin, **options):
    raise Exception(f"URL fetch failure on {origin}: None -- [Errno -2] Name or service not known")


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("flag", ["encoder_weights", "perceptual_weights"])
def test_imagenet_weights_that_keras_cannot_fetch_are_explained(
    monkeypatch, keras_home, flag, cached
):
    """Keras fetches a damaged cached file again, which fails, too."""
    name = "mobilenet_v2" if flag == "encoder_weights" else "vgg16"
    path, url = imagenet_file(name)
    if cached:
        path.parent.mkdir(parents=True)
        path.write_text("damaged")
    monkeypatch.setattr(keras.src.utils.file_utils, "get_file", unreachable)
    with pytest.raises(RunError) as error:
        if flag == "encoder_weights":
            build_encoder(ModelConfig(encoder=name, encoder_weights="auto"), 64, seed=0)
        else:
            PerceptualLoss("imagenet")
    there = "is not the file that Keras expects" if cached else "is not there"
    assert f"--{flag}=imagenet: {path} {there} and {url} cannot be fetched" in str(error.value)
    assert "([Errno -2] Name or service not known)" in str(error.value)


def test_encoder_weights_file_replaces_the_keras_cache(tmp_path):
    """The remedy that the error names: such a file, given by its path."""
    donor = keras.applications.MobileNetV2(
        include_top=False, weights=None, input_tensor=keras.Input((64, 64, 3))
    )
    path = tmp_path / "mobilenet_v2.weights.h5"
    donor.save_weights(path)
    options = ModelConfig(encoder="mobilenet_v2", encoder_weights=str(path), feature_stride=8)
    encoder = build_encoder(options, 64, seed=0)
    for name in ("Conv1", "block_5_project"):
        np.testing.assert_array_equal(
            encoder.get_layer(name).get_weights()[0], donor.get_layer(name).get_weights()[0]
        )
