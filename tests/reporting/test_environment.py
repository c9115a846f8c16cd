"""Versions, hardware and commit, against their own sources."""

import json
import os
import subprocess
import sys

import numpy as np

from tf_mtl_privacy.reporting.environment import commit, environment, hardware, versions


def test_versions_are_those_that_run():
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


def test_a_package_inside_somebody_elses_checkout_has_no_commit(tmp_path):
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "commit", "-q", "--allow-empty", "-m", "theirs")
    inner = tmp_path / "site-packages"
    inner.mkdir()
    assert commit(inner) is None
