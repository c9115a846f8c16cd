"""Files in `assets.extra`: privacy card, labels, configuration, and checksums."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys

import pytest

from tests.serving.exports import CARD, PRIVATE
from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import Config
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.export.extra_files import require_stubs, without_paths


def extra(exported, name):
    return json.loads((exported.folder / "assets.extra" / name).read_text())


def test_extra_files_contain_card_labels_and_configuration(exported, covered):
    assert extra(exported, "privacy_card.json") == CARD
    labels = extra(exported, "labels.json")
    assert labels == exported.labels
    assert [entry["task"] for entry in labels["tasks"]] == list(covered.task_classes)
    assert labels["tasks"][1]["classes"] == ["young", "middle", "old"]
    assert (labels["image_size"], labels["crop"], labels["version"]) == (32, "center", 1)
    regions = labels["signatures"]["sensitive_regions"]
    assert regions["inputs"] == {"images": {"dtype": "uint8", "shape": [None, None, None, 3]}}
    assert regions["outputs"] == {"map": {"dtype": "float32", "shape": [None, 32, 32]}}
    default = labels["signatures"]["serving_default"]
    assert default["inputs"] == {"image_bytes": {"dtype": "string", "shape": [None]}}
    assert default["outputs"]["age_probabilities"]["shape"] == [None, 3]
    assert Config.from_dict(extra(exported, "config.json")) == without_paths(covered.config)


def test_extra_files_contain_no_private_classes_and_no_paths(exported):
    for path in exported.folder.rglob("*.json"):
        assert not [name for name in PRIVATE if f'"{name}"' in path.read_text()]
    data = dataclasses.replace(
        tiny_config().data, dataset="celeba", data_dir="/a/b/faces", cache_dir="/c"
    )
    config = dataclasses.replace(tiny_config("stl"), data=data)
    exported_config = without_paths(config)
    assert (exported_config.data.data_dir, exported_config.data.cache_dir) == ("faces", "")
    assert Config.from_dict(exported_config.to_dict()) == exported_config


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_documented_checksum_command_detects_damage(exported, repo_root, tmp_path):
    page = (repo_root / "docs" / "export.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^cd exports/demo/1 && (.*?)\n```", page, re.DOTALL | re.MULTILINE)
    copied = shutil.copytree(exported.folder, tmp_path / "1")

    def check():
        return subprocess.run(["bash", "-c", line], cwd=copied, capture_output=True, text=True)

    assert (check().returncode, check().stdout) == (0, "")
    (weights,) = (copied / "variables").glob("variables.data*")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert check().returncode != 0 and weights.name in check().stdout
    weights.unlink()
    assert check().returncode != 0


def test_require_stubs_missing_package_names_the_install_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_serving.apis.prediction_log_pb2", None)
    with pytest.raises(
        RunError, match=r"tensorflow-serving-api is missing.*pip install '\.\[serving\]'"
    ):
        require_stubs()
