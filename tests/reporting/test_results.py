"""results.json: documented keys, removal, and the versions, hardware and commit behind it."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tf_mtl_privacy.config import Config, RemovalConfig
from tf_mtl_privacy.reporting.results import (
    NO_EPSILON,
    build_results,
    commit,
    environment,
    hardware,
    removal_summary,
    versions,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "results-schema.md"
# Documented, and only there under circumstances that these results do not have.
ELSEWHERE = {"utility.<task>.reason", "training.tasks.<task>", "restoration.mean_image_reason"}
ELSEWHERE |= {"privacy.discriminator.reason", "privacy.probe", "privacy.leakage"}
ELSEWHERE |= {
    f"privacy.leakage.claim.{name}" for name in ("upper", "target", "level", "all_attackers")
}


def _documented():
    return re.findall(r"^\| `([^`]+)` \|", DOCUMENT.read_text(), re.MULTILINE)


def _pattern(key):
    parts = re.split(r"<\w+>", key)
    return re.compile(r"[^.]+".join(re.escape(part) for part in parts))


def _leaves(value, path=""):
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else key)
    else:
        yield path, value


def test_every_key_is_documented(results, bare_results):
    patterns = [_pattern(key) for key in _documented()]
    for found in (results, bare_results):
        for path, value in _leaves(found):
            if value != {}:
                assert any(pattern.fullmatch(path) for pattern in patterns), path


def test_documented_keys_exist(results, bare_results):
    paths = [path for found in (results, bare_results) for path, _ in _leaves(found)]
    missing = {key for key in _documented() if not any(_pattern(key).fullmatch(p) for p in paths)}
    assert missing == ELSEWHERE


def test_results_are_json_without_nan(results, bare_results):
    for found in (results, bare_results):
        assert json.loads(json.dumps(found, allow_nan=False)) == json.loads(json.dumps(found))


def test_results_of_an_untrained_run_have_no_dp_and_gates(results):
    found = build_results(Config(), {}, {}, results["evaluated_on"], {})
    assert found["dp"] == {"epsilon_pld": None, "epsilon_rdp": None, "reason": NO_EPSILON}
    assert found["gates"] == {} and found["stop_rule"] is None and found["training"] is None


def config_of(removal, model="mtl_adv", **shapes):
    plain = Config()
    return dataclasses.replace(
        plain,
        data=dataclasses.replace(plain.data, image_size=32),
        model=dataclasses.replace(plain.model, **shapes),
        train=dataclasses.replace(plain.train, model=model),
        removal=RemovalConfig(**removal),
    )


def test_noise_of_power_one_passes_half_a_bit_per_number():
    found = removal_summary(config_of({"feature_noise": 1.0}, feature_stride=8, feature_channels=3))
    assert found["entries"] == 48
    assert found["capacity_bits"] == pytest.approx(24.0)


def test_capacity_without_noise_is_none():
    found = removal_summary(config_of({"erasure": "leace", "erasure_labels": "public"}))
    assert found["capacity_bits"] is None
    assert (found["erasure"], found["erasure_labels"]) == ("leace", "public")
    assert removal_summary(config_of({}))["erasure_labels"] is None


@pytest.mark.parametrize(("mask", "entries"), [("none", 64 * (5 + 48)), ("learned", 64 * (5 + 64))])
def test_removal_summary_counts_pixels_of_the_pixel_path(mask, entries):
    config = config_of({"mask": mask}, feature_stride=4, feature_channels=5, pixel_path=True)
    assert removal_summary(config)["entries"] == entries


def test_removal_summary_without_the_game_is_empty():
    found = removal_summary(config_of({"feature_noise": 1.0, "mask": "learned"}, model="mtl_dp"))
    assert (found["mask"], found["feature_noise"], found["capacity_bits"]) == ("none", 0.0, None)


def test_versions_match_the_imported_packages():
    found = versions()
    assert found["numpy"] == np.__version__
    assert found["python"] == sys.version.split()[0]
    assert found["tensorflow"].startswith("2.") and found["tensorflow_privacy"]


def test_hardware_is_plausible():
    found = hardware()
    assert 1 <= found["cores"] <= os.cpu_count()
    assert found["cpu"] and found["memory_gib"] > 0.5
    json.dumps(environment())


def _git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_commit_of_a_checkout(tmp_path):
    assert commit(tmp_path) is None
    _git(tmp_path, "init", "-q")
    assert commit(tmp_path) is None  # a repository without a commit
    (tmp_path / "file").write_text("1")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "first")
    assert commit(tmp_path) == {"hash": _git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "file").write_text("2")
    assert commit(tmp_path)["dirty"] is True


def test_commit_of_a_package_in_another_checkout_is_none(tmp_path):
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs")
    inner = tmp_path / "site-packages"
    inner.mkdir()
    assert commit(inner) is None
