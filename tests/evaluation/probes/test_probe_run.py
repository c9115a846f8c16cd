"""From a run to `privacy.probe`: all targets, all settings, what is kept and what is refused."""

import dataclasses
import json
import types

import numpy as np
import pytest

from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import AUDIT_FOLDER
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluate import evaluate_run
from tf_mtl_privacy.evaluation.probes import attack as probe_attack
from tf_mtl_privacy.evaluation.probes import saved
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.reporting.tables import results_table

TARGETS = ("features", "restored", "pixels", "untrained", "logits", "planted")
OF_RUN = ("features", "restored", "logits")
TASKS = {"gender": 2, "age": 4, "expression": 2}


def neighbours_only(setting, **changes):
    attacked = ("features", "features_again", "images", "pixels", "untrained", "logits", "planted")
    return dataclasses.replace(setting, **(dict.fromkeys(attacked, ("knn_whitened",)) | changes))


@pytest.fixture
def run(tmp_path, monkeypatch, tiny_fast):
    """An untrained network and few faces; loading and settings are in memory."""
    config = tiny_config("mtl_adv")
    data = dataclasses.replace(config.data, cache_dir=str(tmp_path / "cache"))
    config = dataclasses.replace(config, data=data)
    dataset = open_dataset(data)
    found = types.SimpleNamespace(
        config=config,
        task_classes=dataset.task_classes,
        private_classes=dataset.private_classes,
        bundle=build_bundle(config, TASKS, 8),
        single_task={},
        data_fingerprint=dataset.fingerprint,
        status={"gates": {}, "stop_rule": None, "training": None, "dp": None},
        folder=tmp_path / "run",
        run_dir=tmp_path / "run",
    )
    monkeypatch.setattr("tf_mtl_privacy.training.saved_run.load_run", lambda _: found)
    monkeypatch.setitem(saved.SETTINGS, "fast", tiny_fast)
    return found


def test_a_run_is_attacked_on_every_target_and_the_figures_are_kept(run):
    before = [values.copy() for values in run.bundle.encoder.get_weights()]
    found = evaluate_run(run.folder, probe="fast")
    probe = found["privacy"]["probe"]
    assert json.loads((run.folder / "results.json").read_text())["privacy"]["probe"] == probe
    for name in TARGETS:
        best = probe[name]["strongest"]
        assert best["n"] == 24 and best["ci95"][0] <= best["accuracy"] <= best["ci95"][1]
        assert probe[name]["attackers"][best["name"]]["accuracy"] == best["accuracy"]
        kinds = probe[name]["by_rows"]
        top = kinds[probe[name]["trained_on"]]
        assert top.items() <= probe[name].items(), "the kind that reads more"
        assert kinds["unseen"]["strongest"] and ("curve" in probe[name]) == (name in OF_RUN)
        both = name in ("features", "logits")
        assert bool(kinds["own"]["strongest"]) == both
        # Exact, and never below the interval of any attacker.
        ends = [kinds[k]["strongest"]["ci95"][1] for k in kinds if kinds[k]["strongest"]]
        assert probe[name]["bound"]["accuracy"] >= max(ends)
        count = sum(len(part.get("attackers", ())) for part in kinds.values())
        assert probe[name]["bound"]["attackers"] == count
    unseen, own = (probe["features"]["by_rows"][kind] for kind in ("unseen", "own"))
    assert (unseen["rows"], own["rows"], probe["features"]["own"]) == (96, 72, own)
    # What vouches for an attack learns from as many rows, and is tested on as many.
    assert probe["planted"]["rows"] == 96 and probe["pixels"]["rows"] == 64
    assert probe["restored"]["rows"] == 64
    assert set(unseen["attackers"]) == set(saved.SETTINGS["fast"].features)
    assert set(own["attackers"]) == set(saved.SETTINGS["fast"].features_again)
    whole = probe["features"]["rows"]
    sizes = [point["rows"] for point in probe["features"]["curve"]]
    assert sizes == [whole // 4, whole // 2, whole]
    assert probe["restored"]["trend"] == "not measured" and probe["restored"]["curve"] == []
    assert probe["masked_pictures"]["strongest"] is None
    assert probe["features"]["patience"]["checked"] is False
    assert "--probe=fast does not train" in probe["features"]["patience"]["reason"]
    assert probe["setting"] == "fast" and probe["seconds"] > 0
    # 64 pictures of 32 pixels are too few for anything.
    assert probe["underpowered"] is True
    assert probe["not_checked"] == ["removal_off", "patience"]
    assert any("learned from 96 rows" in reason for reason in probe["underpowered_reasons"])
    assert "UNDERPOWERED: NO CLAIM" in results_table(found)
    for old, now in zip(before, run.bundle.encoder.get_weights(), strict=True):
        np.testing.assert_array_equal(old, now)

    assert evaluate_run(run.folder)["privacy"]["probe"] == probe
    weights = run.bundle.encoder.get_weights()
    run.bundle.encoder.set_weights([values + 1e-3 for values in weights])
    assert evaluate_run(run.folder)["privacy"]["probe"] is None


def stop_after(monkeypatch, count):
    """The attackers that are sent, and an interruption in place of the one after `count`."""
    sent, make = [], probe_attack._reading

    def reading(name, *rest):
        if len(sent) == count:
            raise KeyboardInterrupt
        sent.append(name)
        return make(name, *rest)

    monkeypatch.setattr(probe_attack, "_reading", reading)
    return sent


def without_bookkeeping(probe):
    return {k: v for k, v in probe.items() if k not in ("seconds", "kept_readings")}


def kept_file(run):
    (found,) = (run.folder / AUDIT_FOLDER).glob("attackers-*.json")
    return found


def test_thorough_attackers_go_on_where_they_stopped(run, monkeypatch, tiny_thorough):
    names = ("knn_whitened", "logistic_standardised", "mlp_whitened")
    setting = neighbours_only(tiny_thorough, features=names, noise=())
    monkeypatch.setitem(saved.SETTINGS, "thorough", setting)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 3)
        evaluate_run(run.folder, probe="thorough")
    with pytest.MonkeyPatch.context() as patch:
        sent = stop_after(patch, None)
        resumed = evaluate_run(run.folder, probe="thorough")["privacy"]["probe"]
    # Two starts of the network; the second, and the targets after the features.
    assert sent.count("mlp_whitened") == 1 and "logistic_standardised" not in sent
    assert resumed["kept_readings"] == 3
    kept_file(run).unlink()
    whole = evaluate_run(run.folder, probe="thorough")["privacy"]["probe"]
    assert whole["kept_readings"] == 0
    assert without_bookkeeping(resumed) == without_bookkeeping(whole)


def everybody_sent(run):
    with pytest.MonkeyPatch.context() as patch:
        sent = stop_after(patch, None)
        evaluate_run(run.folder, probe="thorough")
    return len(sent)


def with_other_labels(data):
    """The same pictures, rows and fingerprint; the fingerprint does not know what is private."""
    dataset = open_dataset(data)
    labels = dataset.all_labels
    shifted = np.where(labels.private < 0, -1, (labels.private + 1) % 8).astype(np.int32)
    return dataclasses.replace(dataset, all_labels=labels._replace(private=shifted))


def test_readings_of_other_weights_or_labels_are_not_taken(run, monkeypatch, tiny_thorough):
    monkeypatch.setitem(saved.SETTINGS, "thorough", neighbours_only(tiny_thorough))
    whole = everybody_sent(run)
    assert whole >= len(TARGETS) and everybody_sent(run) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tf_mtl_privacy.data.opening.open_dataset", with_other_labels)
        assert everybody_sent(run) == whole
    weights = run.bundle.encoder.get_weights()
    run.bundle.encoder.set_weights([values + 1e-3 for values in weights])
    assert everybody_sent(run) == whole
    run.bundle.encoder.set_weights(weights)
    assert everybody_sent(run) == 0, "those of the first weights are still there"


DAMAGED = {
    "no readings": "[1]",
    "a list": '{"readings": []}',
    "no time": '{"readings": {"a": {"name": "a", "validation": 0.5, "test": {}}}}',
    "no rate": json.dumps(
        {
            "readings": {
                "a": {
                    "name": "a",
                    "validation": 7,
                    "test": {"accuracy": 1, "balanced_accuracy": 1, "ci95": [0, 1], "n": 4},
                    "seconds": 1.0,
                }
            }
        }
    ),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_of_readings_is_named(run, monkeypatch, tiny_thorough, text):
    monkeypatch.setitem(saved.SETTINGS, "thorough", neighbours_only(tiny_thorough))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 1)
        evaluate_run(run.folder, probe="thorough")
    kept_file(run).write_text(text)
    with pytest.raises(RunError, match=r"attackers-\w+\.json: not a file of attackers' readings"):
        evaluate_run(run.folder, probe="thorough")
    assert kept_file(run).read_text() == text


def test_features_of_the_own_rows_and_of_a_run_with_removal_off(run, monkeypatch, tiny_fast):
    monkeypatch.setitem(saved.SETTINGS, "fast", neighbours_only(tiny_fast))
    first = evaluate_run(run.folder, probe="fast")["privacy"]["probe"]
    own = first["features"]["own"]
    assert (own["trained_on"], own["rows"]) == ("own", 72)
    other = run.folder.parent / "other"
    found = evaluate_run(other, probe="fast", removal_off=str(run.folder))["privacy"]["probe"]
    assert found["removal_off"]["strongest"] == first["features"]["strongest"]
    assert found["not_checked"] == ["patience"]
    shifted = dataclasses.replace(run.config.data, synthetic_shift="blur")
    with pytest.raises(UsageError, match="synthetic_shift is 'none', here it is 'blur'"):
        evaluate_run(other, shifted, probe="fast", removal_off=str(run.folder))
    with pytest.raises(UsageError, match=r"--removal_off=nowhere: results.json there has no"):
        evaluate_run(other, probe="fast", removal_off="nowhere")
    path = run.folder / "results.json"
    results = json.loads(path.read_text())
    results["config"]["removal"]["mask"] = "learned"
    path.write_text(json.dumps(results))
    with pytest.raises(UsageError, match=r"--removal_off=.*: that run has --mask=learned"):
        evaluate_run(other, probe="fast", removal_off=str(run.folder))


def test_single_task_runs_are_read_through_their_best_encoder(run, monkeypatch, tiny_fast):
    monkeypatch.setitem(saved.SETTINGS, "fast", neighbours_only(tiny_fast))
    stl = dataclasses.replace(run.config, train=dataclasses.replace(run.config.train, model="stl"))
    whole = {task: build_bundle(stl, {task: count}, 0) for task, count in TASKS.items()}
    run.bundle, run.single_task = whole["gender"], whole
    probe = evaluate_run(run.folder, probe="fast")["privacy"]["probe"]
    assert set(probe["features"]["attackers"]) == {f"{task}/knn_whitened" for task in TASKS}
    assert probe["restored"] == {"strongest": None, "reason": "the model has no restorer"}


def test_without_a_private_label_there_is_nothing_to_attack(run):
    data = dataclasses.replace(run.config.data, private_label="none")
    assert evaluate_run(run.folder, data, probe="fast")["privacy"]["probe"] is None


def test_rows_of_another_split_are_not_attacked():
    from tf_mtl_privacy.verbs import EvaluateOptions

    with pytest.raises(UsageError, match=r"--split=validation: fresh attackers \(--probe=fast\)"):
        EvaluateOptions(split="validation", probe="fast")
    with pytest.raises(UsageError, match=r"--removal_off=x: expected --probe"):
        EvaluateOptions(removal_off="x")


def test_train_asks_for_the_attackers_of_its_flag(monkeypatch, tmp_path):
    from tf_mtl_privacy import train
    from tf_mtl_privacy.flags import parse

    asked = []

    def evaluated(run_dir, **keywords):
        asked.append(keywords["probe"])
        raise UsageError("far enough")

    status = {"dp": {"scope": None}}
    run = types.SimpleNamespace(status=status, run_dir=tmp_path)
    monkeypatch.setattr("tf_mtl_privacy.training.fit.fit", lambda *a, **k: run)
    monkeypatch.setattr("tf_mtl_privacy.evaluate.evaluate_run", evaluated)
    for flags in (["--probe=fast"], ["--probe=none"], ["--probe=thorough"]):
        with pytest.raises(UsageError, match="far enough"):
            train.main(parse("train", [f"--run_dir={tmp_path}", *flags]))
    assert asked == ["fast", "none", "thorough"]
    assert parse("evaluate", [f"--run_dir={_saved(tmp_path)}"]).options.probe == "none"


def _saved(folder):
    (folder / "config.json").write_text(json.dumps(tiny_config().to_dict()))
    return folder
