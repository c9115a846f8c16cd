"""experiments/probe_studies/image_starts.py: its faces, its bar and its flags."""

import dataclasses
import json

import numpy as np
import pytest

from experiments.probe_studies import image_starts
from tests.evaluation.probes.conftest import TINY
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.data.sources.synthetic import fresh_faces
from tf_mtl_privacy.evaluation.probes.budget import FAST
from tf_mtl_privacy.evaluation.probes.data import ProbeData


@pytest.fixture
def tiny_setting(monkeypatch):
    setting = dataclasses.replace(FAST, **TINY)
    monkeypatch.setitem(image_starts.PROBE_BUDGETS, "fast", setting)
    monkeypatch.setattr(image_starts, "TESTED", 24)
    return setting


def marked(share):
    """Small pictures; in `share` of them a block of one of eight colours says the label."""
    rng = np.random.default_rng(0)
    colours = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.float32)

    def part(count):
        labels = (np.arange(count) % 8).astype(np.int32)
        rows = rng.uniform(0.4, 0.6, (count, 8, 8, 3)).astype(np.float32)
        shown = rng.random(count) < share
        rows[shown, 2:6, 2:6] = colours[labels[shown], None, None]
        return rows, labels

    return ProbeData(*part(512), *part(64), *part(64), 8)


def test_pixels_are_the_attackers_faces_in_order(tiny_setting):
    data = image_starts.pixels(3, tiny_setting)
    read, labels = fresh_faces(DataConfig(data_seed=3), "attacker", 128)
    assert (len(data.train), len(data.validation), len(data.test)) == (64, 40, 24)
    faces = np.asarray(to_float(read(np.arange(128))))
    np.testing.assert_array_equal(np.concatenate([data.train, data.validation, data.test]), faces)
    found = np.concatenate([data.train_labels, data.validation_labels, data.test_labels])
    np.testing.assert_array_equal(found, labels.private)


@pytest.mark.parametrize(("share", "code"), [(1.0, 0), (0.0, 1)])
def test_main_with_a_start_below_the_bar_fails(
    monkeypatch, capsys, tmp_path, tiny_setting, share, code
):
    longer = dataclasses.replace(tiny_setting, min_updates=160)
    monkeypatch.setitem(image_starts.PROBE_BUDGETS, "fast", longer)
    monkeypatch.setattr(image_starts, "pixels", lambda *asked: marked(share))
    path = tmp_path / "found.json"
    assert image_starts.main(["--starts=2", f"--json={path}"]) == code
    printed = capsys.readouterr().out
    assert (
        printed.count("\n| ") >= 2 and f"{2 - 2 * code} of 2 starts read at least 85 %" in printed
    )
    kept = json.loads(path.read_text())["starts"]
    assert [row["start"] for row in kept] == [0, 1]
    assert all((row["test"] > 0.9) == (code == 0) for row in kept)


def test_pixels_with_tint_and_noise_are_pale_and_noisy(tiny_setting):
    whole, pale = (image_starts.pixels(3, tiny_setting, tint).train for tint in (1.0, 0.25))
    np.testing.assert_allclose(pale.mean(axis=-1), whole.mean(axis=-1), atol=1e-6)
    assert np.ptp(pale, axis=-1).sum() == pytest.approx(np.ptp(whole, axis=-1).sum() / 4, rel=1e-3)
    noisy = image_starts.pixels(3, tiny_setting, 0.25, 0.03).train
    assert (noisy - pale).std() == pytest.approx(0.03, rel=0.02)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--starts=0", "expected at least 1"),
        ("--tint=2", "expected a factor in [0, 1]"),
        ("--noise=-1", "expected a standard deviation in [0, 1]"),
    ],
)
def test_wrong_flags_are_named(capsys, flag, words):
    with pytest.raises(SystemExit) as stopped:
        image_starts.main([flag])
    assert stopped.value.code == 2
    assert f"{flag}: {words}" in capsys.readouterr().err
