"""Public backbones and logged images in `fit`, in runs without any training step."""

import dataclasses
import json

import pytest

from tests.models.run_folders import config_of, finished_run
from tests.training.tiny import EPOCHS, tiny_arrays, tiny_config
from tests.training.tiny_private import all_private_config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.training.fit import fit

NONE = dict.fromkeys(EPOCHS, 0)
CLASSES = {"gender": 2}


def public_run(folder, seed=1):
    """Makes a folder like that of a run on synthetic faces."""
    finished_run(folder, config_of(seed=seed), CLASSES, 3)
    return folder


def held(run_dir):
    return {name for name in ("config.json", "labels.json") if (run_dir / name).exists()}


def test_run_on_passed_rows_is_not_a_public_backbone(tmp_path):
    mine, private = tmp_path / "mine", tmp_path / "private"
    fit(tiny_config("mtl_adv", **NONE), tiny_arrays(), run_dir=mine)
    assert json.loads((mine / "config.json").read_text())["data"]["dataset"] == "synthetic_faces"
    assert json.loads((mine / "labels.json").read_text())["source"] == ""
    with pytest.raises(UsageError, match=f"--backbone={mine}: was trained on rows passed"):
        fit(all_private_config("", mine, **NONE), tiny_arrays(), run_dir=private)
    assert not held(private)
    # The corrected request takes the folder.
    run = fit(
        all_private_config("", public_run(tmp_path / "public"), **NONE),
        tiny_arrays(),
        run_dir=private,
    )
    assert run.status["dp"]["public_backbone"].startswith("an encoder trained on synthetic faces")
    assert held(private) == {"config.json", "labels.json"}


def test_run_on_opened_data_records_its_source(tmp_path):
    config = tiny_config("mtl_adv", **NONE)
    data = dataclasses.replace(config.data, cache_dir=str(tmp_path / "cache"))
    fit(dataclasses.replace(config, data=data), run_dir=tmp_path / "run")
    labels = json.loads((tmp_path / "run" / "labels.json").read_text())
    assert labels["source"] == "synthetic_faces"
    assert shown(tmp_path / "run") == {b"original", b"restored"}, "logged by default"


def shown(run_dir):
    """Returns the kinds of images in TensorBoard's files."""
    written = b"".join(path.read_bytes() for path in (run_dir / "tensorboard").glob("events*"))
    assert written
    return {tag for tag in (b"original", b"restored") if tag in written}


@pytest.mark.parametrize("log_images", [False, True])
def test_passed_images_are_logged_only_on_request(tmp_path, log_images):
    fit(tiny_config("mtl_adv", **NONE), tiny_arrays(), run_dir=tmp_path, log_images=log_images)
    assert shown(tmp_path) == ({b"original", b"restored"} if log_images else set())


def test_run_resumes_only_with_its_first_backbone(tmp_path):
    backbone, run_dir = public_run(tmp_path / "backbone"), tmp_path / "run"
    weights = backbone / "models" / "encoder.weights.h5"
    began_with = weights.read_bytes()
    config = all_private_config("", backbone, **NONE)
    said = fit(config, tiny_arrays(), run_dir=run_dir).status["dp"]["public_backbone"]
    # As left by a process that was killed just before the end.
    (run_dir / "training.json").unlink()
    weights.write_bytes(
        (public_run(tmp_path / "other", seed=2) / "models" / "encoder.weights.h5").read_bytes()
    )
    with pytest.raises(RunError) as error:
        fit(config, tiny_arrays(), run_dir=run_dir)
    text = str(error.value)
    assert text.startswith(f"run folder {run_dir}: it began on {said}, but --backbone is now ")
    assert text.endswith("restore the first backbone") and "\n" not in text
    assert not (run_dir / "training.json").exists()
    weights.write_bytes(began_with)
    assert fit(config, tiny_arrays(), run_dir=run_dir).status["dp"]["public_backbone"] == said
