"""experiments/probe_studies/probe_power.py: choice of attackers, table, refusals."""

import dataclasses
import json
import types

import numpy as np
import pytest

from experiments.probe_studies import probe_power
from tests.evaluation.probes.conftest import TINY
from tests.evaluation.probes.runs import untrained_run
from tf_mtl_privacy.config import Config, DataConfig
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.data.sources.synthetic import attacker_faces
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.evaluation.probes.budget import FAST


def reading(setting, attacker, validation, test):
    cost = {"seconds": 1.5, "processor_seconds": 2.25, "rows": 10, "ci95": [0.0, 1.0]}
    return {
        "setting": setting,
        "attacker": attacker,
        "trained_on": "own",
        "validation": validation,
        "test": test,
        **cost,
    }


FOUND = {
    "fast": [reading("fast", "a", 0.5, 0.62), reading("fast", "b", 0.6, 0.61)],
    "thorough": [reading("thorough", "a", 0.7, 0.655), reading("thorough", "b", 0.6, 0.9)],
}


def test_strongest_is_chosen_on_validation_rows():
    assert probe_power.strongest(FOUND["fast"] + FOUND["thorough"], "fast") == 0.61
    assert probe_power.strongest(FOUND["fast"] + FOUND["thorough"], "thorough") == 0.655


def test_main_prints_table_and_gap(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(
        probe_power, "load_run", lambda folder: types.SimpleNamespace(config=Config())
    )
    monkeypatch.setattr(probe_power, "open_dataset", lambda data: None)
    monkeypatch.setattr(probe_power, "readings", lambda options, run, dataset, name: FOUND[name])
    path = tmp_path / "found.json"
    assert probe_power.main(["--run_dir=runs/x", f"--json={path}"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[2] == "| fast | a | own | 10 | 0.5 | 0.62 | 1.5 | 2.25 |"
    assert printed[-1].endswith("4.5 points apart on test rows")
    assert json.loads(path.read_text())["strongest"] == {"fast": 0.61, "thorough": 0.655}


def test_settings_flag_with_an_unknown_setting_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        probe_power.main(["--run_dir=runs/x", "--settings=slow"])
    assert stop.value.code == 2 and "--settings=slow" in capsys.readouterr().err


def test_both_kinds_of_rows_are_attacked(tmp_path):
    run = untrained_run(tmp_path / "run")
    dataset = open_dataset(run.config.data)
    tiny = dataclasses.replace(FAST, **TINY)
    options = types.SimpleNamespace(
        seed=0,
        restarts=0,
        faces=0,
        run_dir="x",
        trained_on=["own", "unseen"],
        only=["knn_whitened"],
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(probe_power.PROBE_BUDGETS, "fast", tiny)
        found = probe_power.readings(options, run, dataset, "fast")
    assert [(row["trained_on"], row["rows"]) for row in found] == [("own", 72), ("unseen", 96)]


def test_only_flag_with_an_unknown_attacker_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        probe_power.main(["--run_dir=runs/x", "--only=knn_whitened,knn_cooked"])
    assert stop.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "--only=knn_cooked: expected some of" in error and "discriminator_final" in error


def test_main_with_a_missing_or_damaged_run_prints_one_line(monkeypatch, capsys, tmp_path):
    assert probe_power.main([f"--run_dir={tmp_path}/none"]) == 2
    assert capsys.readouterr().err == (
        f"error: --run_dir={tmp_path}/none: is not a run folder (no config.json)\n"
    )

    def damaged(folder):
        raise RunError("it is damaged")

    monkeypatch.setattr(probe_power, "load_run", damaged)
    assert probe_power.main(["--run_dir=x"]) == 1
    assert capsys.readouterr().err == "error: it is damaged\n"


def test_main_without_a_discriminator_refuses_its_attackers(monkeypatch, capsys):
    bare = types.SimpleNamespace(bundle=types.SimpleNamespace(discriminator=None))
    monkeypatch.setattr(probe_power, "load_run", lambda folder: bare)
    assert probe_power.main(["--run_dir=x", "--only=discriminator"]) == 2
    assert capsys.readouterr().err.startswith("error: --only=discriminator: the run has no disc")


def test_further_faces_follow_those_of_the_attackers():
    data = DataConfig(image_size=32, data_seed=3)
    setting = dataclasses.replace(FAST, rows=6, validation_rows=2)
    further = probe_power.further_faces(data, setting, 5)
    learned, _ = attacker_faces(data, 8)
    whole, labels = attacker_faces(data, 13)
    np.testing.assert_array_equal(whole[:8], learned)
    np.testing.assert_array_equal(further.images, whole[8:])
    np.testing.assert_array_equal(further.labels, labels[8:])
