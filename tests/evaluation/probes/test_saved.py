"""Fresh attackers on a saved run: targets, budgets, cached readings, refusals."""

import dataclasses
import json
import signal
import types
from pathlib import Path

import numpy as np
import pytest

from tests import forks
from tests.evaluation.probes.conftest import TINY
from tests.evaluation.probes.runs import TASKS, untrained_run, write_drawn_celeba
from tests.evaluation.typed import mismatches
from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import AUDIT_FOLDER
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.probes import attack as probe_attack
from tf_mtl_privacy.evaluation.probes import networks, probe_cache, saved, targets
from tf_mtl_privacy.evaluation.probes.attack import Reading
from tf_mtl_privacy.evaluation.probes.data import figures
from tf_mtl_privacy.evaluation.probes.probe_cache import strongest_kept
from tf_mtl_privacy.evaluation.schema import Results
from tf_mtl_privacy.evaluation.training_checks import CHECK, fresh_check
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.removal.mask import switch_mask
from tf_mtl_privacy.removal.noise import count_draws
from tf_mtl_privacy.reporting.evaluate_run import evaluate_run
from tf_mtl_privacy.reporting.reconcile_probes import leakage
from tf_mtl_privacy.reporting.sections.summary import results_text

TARGETS = ("features", "restored", "pixels", "untrained", "logits", "planted")
OF_RUN = ("features", "restored", "logits")


def neighbours_only(setting, **changes):
    attacked = ("features", "features_again", "images", "pixels", "untrained", "logits", "planted")
    return dataclasses.replace(setting, **(dict.fromkeys(attacked, ("knn_whitened",)) | changes))


@pytest.fixture
def run(tmp_path, monkeypatch, tiny_fast):
    """An untrained network and few faces; loading and settings are in memory."""
    found = untrained_run(tmp_path / "run")
    monkeypatch.setattr("tf_mtl_privacy.training.saved_run.load_run", lambda _: found)
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", tiny_fast)
    return found


def test_evaluate_run_with_probe_attacks_every_target(run):
    before = [values.copy() for values in run.bundle.encoder.get_weights()]
    found = evaluate_run(run.folder, probe="fast")
    probe = found["privacy"]["probe"]
    assert mismatches(found, Results) == []
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
    assert set(unseen["attackers"]) == set(saved.PROBE_BUDGETS["fast"].features)
    assert set(own["attackers"]) == set(saved.PROBE_BUDGETS["fast"].features_again)
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
    assert "NO BOUND CLAIMED (underpowered attackers)" in results_text(found)
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


def test_probe_run_thorough_resumes_after_an_interruption(run, monkeypatch, tiny_thorough):
    names = ("knn_whitened", "logistic_standardised", "mlp_whitened")
    setting = neighbours_only(tiny_thorough, features=names, noise=())
    monkeypatch.setitem(saved.PROBE_BUDGETS, "thorough", setting)
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


def test_probe_run_fast_resumes_after_kill_9(run):
    """The process dies amid the sixth attempt, without a word to anybody."""
    arguments = "tests.evaluation.probes.runs", run.folder, "fast"
    killed = forks.run_module(*arguments, 5, cwd=Path.cwd())
    assert killed.returncode == -signal.SIGKILL
    assert len(json.loads(kept_file(run).read_text())["readings"]) == 5
    again = forks.run_module(*arguments, 1000, cwd=Path.cwd())
    assert again.returncode == 0, again.stderr
    probe = json.loads((run.folder / "results.json").read_text())["privacy"]["probe"]
    made = len(json.loads(kept_file(run).read_text())["readings"])
    assert probe["kept_readings"] == 5 and int(again.stdout.split()[-1]) == made - 5
    # What was kept of the killed call is what the other one would have found.
    kept_file(run).unlink()
    assert forks.run_module(*arguments, 1000, cwd=Path.cwd()).returncode == 0
    whole = json.loads((run.folder / "results.json").read_text())["privacy"]["probe"]
    assert without_bookkeeping(probe) == without_bookkeeping(whole)


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


def test_probe_run_ignores_readings_of_other_weights_or_labels(run, monkeypatch, tiny_thorough):
    monkeypatch.setitem(saved.PROBE_BUDGETS, "thorough", neighbours_only(tiny_thorough, curves=()))
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
def test_probe_run_with_damaged_readings_names_the_file(run, monkeypatch, tiny_thorough, text):
    monkeypatch.setitem(saved.PROBE_BUDGETS, "thorough", neighbours_only(tiny_thorough))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 1)
        evaluate_run(run.folder, probe="thorough")
    kept_file(run).write_text(text)
    with pytest.raises(RunError, match=r"attackers-\w+\.json: not a file of attacker results"):
        evaluate_run(run.folder, probe="thorough")
    assert kept_file(run).read_text() == text


def test_probe_run_ignores_readings_of_other_code_rows_or_budget(run, monkeypatch, tiny_fast):
    def sent(probe="fast"):
        with pytest.MonkeyPatch.context() as patch:
            names = stop_after(patch, None)
            evaluate_run(run.folder, probe=probe)
        return len(names)

    setting = neighbours_only(tiny_fast, curves=())
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", setting)
    whole = sent()
    assert whole > 5 and sent() == 0
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", dataclasses.replace(setting, rows=80))
    assert sent() == whole
    monkeypatch.setattr(saved, "code_digest", lambda: "other sources")
    assert sent() == whole


def test_code_digest_changes_with_attackers_scores_and_networks(tmp_path, monkeypatch):
    package = tmp_path / "tf_mtl_privacy"
    names = ("evaluation/probes/a.py", "evaluation/utility.py", "models/encoder.py", "removal/a.py")
    for name in names:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("x = 1")
    (package / "reporting.py").write_text("x = 1")
    monkeypatch.setattr(probe_cache, "_PACKAGE", package)
    first = probe_cache.code_digest()
    (package / "reporting.py").write_text("x = 2")
    assert probe_cache.code_digest() == first
    for name in names:
        (package / name).write_text("x = 2")
        second = probe_cache.code_digest()
        assert second != first
        first = second


def test_kept_best_counts_readings_of_interrupted_attacks_and_other_budgets(
    run, monkeypatch, tiny_fast, tiny_thorough
):
    """A thorough attack that is stopped after its first attackers, then the fast one."""
    monkeypatch.setitem(saved.PROBE_BUDGETS, "thorough", neighbours_only(tiny_thorough))
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", neighbours_only(tiny_fast, curves=()))
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, 1)
        evaluate_run(run.folder, probe="thorough")
    # As if that one had found a lot.
    path = kept_file(run)
    found = json.loads(path.read_text())
    (key,) = found["readings"]
    test = found["readings"][key]["test"]
    test |= {"accuracy": 0.91, "balanced_accuracy": 0.9}
    test |= {"ci95": [0.8, 0.97], "balanced_ci95": [0.79, 0.96]}
    path.write_text(json.dumps(found))
    probe = evaluate_run(run.folder, probe="fast")["privacy"]["probe"]
    best = probe["kept_best"]["features"]
    assert probe["features"]["strongest"]["accuracy"] < 0.7
    assert best["strongest"]["accuracy"] == 0.91 and best["strongest"]["name"] == "knn_whitened"
    assert (best["setting"], best["split"], best["trained_on"]) == ("thorough", "test", "unseen")
    assert best["rows"] == 96 and best["bound"]["accuracy"] >= 0.97
    # Readings of the fast attackers are among them, references are not.
    fast = len(probe["features"]["attackers"])
    assert best["readings"] > fast and "pixels" not in probe["kept_best"]
    # A result that is kept is told of it, too; other weights are not.
    assert evaluate_run(run.folder)["privacy"]["probe"]["kept_best"]["features"] == best
    assert strongest_kept(run.folder, "0" * 16) == {}
    shifted = dataclasses.replace(run.config.data, synthetic_shift="blur")
    other = evaluate_run(run.folder, shifted, probe="fast")["privacy"]["probe"]
    assert other["kept_best"]["features"]["strongest"]["accuracy"] < 0.7, "of other test rows"


def test_kept_best_ignores_readings_of_another_private_label(tmp_path, monkeypatch, tiny_fast):
    """One of two classes is read more often than one of eight; the data's fingerprint is one."""
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", neighbours_only(tiny_fast, curves=()))
    data = write_drawn_celeba(tmp_path / "faces", (120, 60, 60))
    run = untrained_run(tmp_path / "run", data)
    monkeypatch.setattr("tf_mtl_privacy.training.saved_run.load_run", lambda _: run)
    first = evaluate_run(run.folder, probe="fast")["privacy"]
    other = dataclasses.replace(data, private_label="Eyeglasses")
    glasses = evaluate_run(run.folder, other, probe="fast")["privacy"]
    assert glasses["classes"] == 2
    best = glasses["leakage"]["features"]["accuracy"]
    assert best > first["leakage"]["features"]["accuracy"] + 0.1
    for probe in ("none", "fast"):
        again = evaluate_run(run.folder, probe=probe)["privacy"]
        for name in ("accuracy", "upper", "attacker", "rows"):
            assert again["leakage"]["features"][name] == first["leakage"]["features"][name]
    kept_other = evaluate_run(run.folder, other)["privacy"]
    assert kept_other["leakage"]["features"]["accuracy"] == best
    # An audit of the run is of its own label.
    write_json(run.folder / "audit.json", {"schema_version": 1, "attributes": again["probe"]})
    results = json.loads((run.folder / "audit.json").read_text())
    results |= {"weights": again["probe"]["weights"]}
    results["attributes"]["features"]["strongest"]["accuracy"] = 0.99
    write_json(run.folder / "audit.json", results)
    assert evaluate_run(run.folder, other)["privacy"]["leakage"]["features"]["accuracy"] < 0.9
    assert evaluate_run(run.folder)["privacy"]["leakage"]["features"]["accuracy"] == 0.99


def test_leakage_counts_readings_without_their_result(run, monkeypatch, tiny_fast):
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", neighbours_only(tiny_fast, curves=()))
    first = evaluate_run(run.folder, probe="fast")["privacy"]["leakage"]
    (run.folder / "results.json").unlink()
    found = evaluate_run(run.folder)["privacy"]
    assert found["probe"] is None
    for name in ("accuracy", "upper"):
        assert found["leakage"]["features"][name] == first["features"][name]
    assert found["leakage"]["claim"] is None and found["leakage"]["weights"] == first["weights"]


def test_kept_best_has_the_highest_figure_and_the_highest_end(run):
    """400 validation rows: 60 % and an end at 65; 4,000 test rows: 63 % and an end at 64.5."""
    weights = "0" * 16
    wide = figures_of(240, 400)
    probe_cache.keep_check(run.folder / AUDIT_FOLDER, weights, {"features/own//a/0": wide})
    narrow = dataclasses.replace(figures_of(2520, 4000), name="b", rows=9000)
    readings = probe_cache.KeptReadings(run.folder / AUDIT_FOLDER, {"weights": weights})
    readings("features/own//b/0", lambda: narrow)
    best = strongest_kept(run.folder, weights)["features"]
    assert best["strongest"]["name"] == "a" and best["attackers"]["b"]["accuracy"] == 0.63
    results = {"privacy": {"probe": None}}
    others = [{"source": "kept", "kept_best": {"features": best}}]
    found = leakage(results, others=others)["features"]
    assert (found["accuracy"], found["attacker"], found["rows"]) == (0.63, "b", 9000)


def test_strongest_kept_of_an_earlier_version_has_the_present_name(tmp_path):
    """Cached readings and checks of versions that called the family `local`."""
    old = dataclasses.replace(figures_of(30, 40), name="local_raw")
    readings = probe_cache.KeptReadings(tmp_path / AUDIT_FOLDER, {"weights": "a"})
    readings("features/own//local_raw/0", lambda: old)
    probe_cache.keep_check(tmp_path / AUDIT_FOLDER, "b", {"features/own//local_raw/0": old})
    for weights in ("a", "b"):
        best = strongest_kept(tmp_path, weights)["features"]
        assert best["strongest"]["name"] == best["bound"]["attacker"] == "patch_cnn_raw"
        assert best["attackers"]["patch_cnn_raw"]["accuracy"] == 0.75


def figures_of(hits, rows):
    """An attacker named `a` that reads `hits` of `rows` rows of one class."""
    scores = np.eye(2)[(np.arange(rows) >= hits).astype(int)]
    return Reading("a", 0.5, figures(scores, np.zeros(rows, np.int32)))


def test_kept_best_counts_the_check_of_the_final_weights(run):
    """`checks.json` has a reading for each checked weights; the last ones are the run's."""
    setting = dataclasses.replace(CHECK, **TINY, features=("knn_whitened",))
    dataset = open_dataset(run.config.data)
    check = fresh_check(run.config, setting, run.folder / AUDIT_FOLDER)
    start = run.bundle.encoder.get_weights()
    run.bundle.encoder.set_weights([values * 2 for values in start])
    check(run.bundle, dataset)
    run.bundle.encoder.set_weights(start)
    figures = check(run.bundle, dataset)
    kept_checks = json.loads((run.folder / AUDIT_FOLDER / "checks.json").read_text())["checks"]
    weights = saved.weights_digest({"": run.bundle})
    assert len(kept_checks) == 2 and weights in kept_checks
    found = strongest_kept(run.folder, weights)["features"]
    best = found["strongest"]
    assert best["name"] == "knn_whitened" and best["n"] == len(dataset.rows["validation"])
    assert best["balanced_accuracy"] == figures["fresh_probe_balanced_accuracy"]
    assert best["balanced_ci95"][1] == figures["fresh_probe_upper"]
    assert (found["split"], found["setting"], found["rows"]) == ("validation", "check", 96)
    assert found["trained_on"] == "unseen"


def test_kept_probe_of_an_earlier_version_is_underpowered(run, monkeypatch, tiny_fast):
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", neighbours_only(tiny_fast, curves=()))
    evaluate_run(run.folder, probe="fast")
    path = run.folder / "results.json"
    results = json.loads(path.read_text())
    probe = results["privacy"]["probe"]
    del probe["features"]["by_rows"], probe["kept_best"]
    probe |= {"underpowered": False, "underpowered_reasons": []}
    path.write_text(json.dumps(results))
    found = evaluate_run(run.folder)["privacy"]["probe"]
    assert found["underpowered"] and "earlier version" in found["underpowered_reasons"][0]
    # Once, however often it is kept.
    assert len(evaluate_run(run.folder)["privacy"]["probe"]["underpowered_reasons"]) == 1


def test_weights_digest_ignores_the_noise_counter(tmp_path):
    run = untrained_run(tmp_path / "run", removal={"feature_noise": 0.5})
    before = saved.weights_digest({"": run.bundle})
    count_draws(run.bundle.encoder, 7)
    assert saved.weights_digest({"": run.bundle}) == before
    weights = run.bundle.business.get_weights()
    run.bundle.business.set_weights([values + 1 for values in weights])
    assert saved.weights_digest({"": run.bundle}) != before


def test_probe_run_with_a_mask_attacks_the_encoder_s_input(tmp_path, monkeypatch, tiny_fast):
    run = untrained_run(tmp_path / "run", removal={"mask": "learned", "mask_cell": 4})
    switch_mask(run.bundle.encoder, on=True)
    dataset = open_dataset(run.config.data)
    view = targets.masked_pictures(run.bundle.encoder)
    images = dataset.store.images(dataset.rows["test"])
    seen = np.asarray(view(images))
    assert seen.shape == (24, 32, 32, 4)
    covered = seen[..., 3] > 0
    np.testing.assert_allclose(seen[~covered][:, :3], images[~covered] / 255.0, atol=1e-6)
    assert networks.is_image(seen.shape[1:]) and not networks.is_image((8, 8, 4))
    monkeypatch.setattr("tf_mtl_privacy.training.saved_run.load_run", lambda _: run)
    monkeypatch.setitem(
        saved.PROBE_BUDGETS, "fast", neighbours_only(tiny_fast, regions=("knn_whitened",))
    )
    probe = evaluate_run(run.folder, probe="fast")["privacy"]["probe"]
    assert probe["masked_pictures"]["rows"] == 64
    assert probe["masked_pictures"]["strongest"]["name"] == "knn_whitened"
    assert probe["masked_pictures"]["by_rows"]["own"]["strongest"] is None


def test_probe_run_on_photographs_learns_from_training_rows(tmp_path, monkeypatch, tiny_fast):
    """The same weights: what the check reads, the result must not understate.

    120 validation rows leave 90 to unseen attackers, who read next to nothing of a label that the
    1,500 training rows give away.
    """
    data = write_drawn_celeba(tmp_path / "faces", (1500, 120, 500))
    run = untrained_run(tmp_path / "run", data)
    names, effort = ("logistic_standardised", "logistic_whitened"), TINY | {"rows": 1500}
    effort |= {"validation_rows": 400, "dimensions": 200}
    fast = neighbours_only(dataclasses.replace(tiny_fast, **effort), features=names)
    fast = dataclasses.replace(fast, features_again=names)
    check = fresh_check(run.config, dataclasses.replace(CHECK, **effort, features=names))
    before = check(run.bundle, open_dataset(data))
    monkeypatch.setattr("tf_mtl_privacy.training.saved_run.load_run", lambda _: run)
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", fast)
    probe = evaluate_run(run.folder, probe="fast")["privacy"]["probe"]
    features, by_rows = probe["features"], probe["features"]["by_rows"]
    unseen, own = (by_rows[kind] for kind in ("unseen", "own"))
    assert (unseen["rows"], own["rows"]) == (90, 1500)
    assert before["fresh_probe_balanced_accuracy"] > 0.4, "the check reads a lot"
    # It sees 120 rows and the result 500: they differ by what these allow.
    apart = before["fresh_probe_balanced_accuracy"] - features["strongest"]["balanced_accuracy"]
    assert apart < 3 * (0.25 / 120 + 0.25 / 500) ** 0.5
    assert features["trained_on"] == "own" and features["strongest"] == own["strongest"]
    assert features["strongest"]["accuracy"] > unseen["strongest"]["accuracy"] + 0.1
    # Targets that are attacked from one kind of rows take the larger one.
    assert probe["restored"]["trained_on"] == probe["pixels"]["trained_on"] == "own"
    assert probe["planted"]["rows"] == 1500


def test_probe_run_with_a_baseline_run_has_its_figures(run, monkeypatch, tiny_fast):
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", neighbours_only(tiny_fast))
    first = evaluate_run(run.folder, probe="fast")["privacy"]["probe"]
    own = first["features"]["own"]
    assert (own["trained_on"], own["rows"]) == ("own", 72)
    other = run.folder.parent / "other"
    found = evaluate_run(other, probe="fast", baseline_run=str(run.folder))["privacy"]["probe"]
    assert found["removal_off"]["strongest"] == first["features"]["strongest"]
    assert found["not_checked"] == ["patience"]
    shifted = dataclasses.replace(run.config.data, synthetic_shift="blur")
    with pytest.raises(UsageError, match="synthetic_shift is 'none', here it is 'blur'"):
        evaluate_run(other, shifted, probe="fast", baseline_run=str(run.folder))
    with pytest.raises(UsageError, match=r"--baseline_run=nowhere: its results.json has no"):
        evaluate_run(other, probe="fast", baseline_run="nowhere")
    path = run.folder / "results.json"
    results = json.loads(path.read_text())
    results["config"]["removal"]["mask"] = "learned"
    path.write_text(json.dumps(results))
    with pytest.raises(UsageError, match=r"--baseline_run=.*: that run has --mask=learned"):
        evaluate_run(other, probe="fast", baseline_run=str(run.folder))


def test_probe_run_of_single_task_networks_takes_the_best_encoder(run, monkeypatch, tiny_fast):
    monkeypatch.setitem(saved.PROBE_BUDGETS, "fast", neighbours_only(tiny_fast))
    stl = dataclasses.replace(run.config, train=dataclasses.replace(run.config.train, model="stl"))
    whole = {task: build_bundle(stl, {task: count}, 0) for task, count in TASKS.items()}
    run.bundle, run.single_task = whole["gender"], whole
    probe = evaluate_run(run.folder, probe="fast")["privacy"]["probe"]
    assert set(probe["features"]["attackers"]) == {f"{task}/knn_whitened" for task in TASKS}
    assert probe["restored"] == {"strongest": None, "reason": "the model has no restorer"}


def test_probe_run_without_a_private_label_is_none(run):
    data = dataclasses.replace(run.config.data, private_label="none")
    assert evaluate_run(run.folder, data, probe="fast")["privacy"]["probe"] is None


def test_evaluate_options_with_probe_on_another_split_is_refused():
    from tf_mtl_privacy.cli.evaluate import EvaluateOptions

    with pytest.raises(UsageError, match=r"--split=validation: fresh attackers \(--probe=fast\)"):
        EvaluateOptions(split="validation", probe="fast")
    with pytest.raises(
        UsageError, match=r"--baseline_run=x: requires fresh attackers; add --probe=fast"
    ):
        EvaluateOptions(baseline_run="x")


def test_train_passes_its_probe_flag_on(monkeypatch, tmp_path):
    from tf_mtl_privacy.cli import train
    from tf_mtl_privacy.cli.flags import parse

    asked = []

    def evaluated(run_dir, **keywords):
        asked.append(keywords["probe"])
        raise UsageError("far enough")

    status = {"dp": {"scope": None}}
    run = types.SimpleNamespace(status=status, run_dir=tmp_path)
    monkeypatch.setattr("tf_mtl_privacy.training.fit.fit", lambda *a, **k: run)
    monkeypatch.setattr("tf_mtl_privacy.reporting.evaluate_run.evaluate_run", evaluated)
    for flags in (["--probe=fast"], ["--probe=none"], ["--probe=thorough"]):
        with pytest.raises(UsageError, match="far enough"):
            train.main(parse("train", [f"--run_dir={tmp_path}", *flags]))
    assert asked == ["fast", "none", "thorough"]
    assert parse("evaluate", [f"--run_dir={_saved(tmp_path)}"]).options.probe == "none"


def _saved(folder):
    (folder / "config.json").write_text(json.dumps(tiny_config().to_dict()))
    return folder
