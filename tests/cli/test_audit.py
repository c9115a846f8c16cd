"""The command `audit`: a tiny run, an exported model, and exit codes 2 and 3."""

import dataclasses
import json
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.typed import mismatches
from tests.training.tiny import tiny_config
from tf_mtl_privacy.cli.main import execute
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation import inversion
from tf_mtl_privacy.evaluation.audit import parts
from tf_mtl_privacy.evaluation.audit import parts as audit_parts
from tf_mtl_privacy.evaluation.audit.reference_run import power_part
from tf_mtl_privacy.evaluation.inversion import DecoderBudget
from tf_mtl_privacy.evaluation.membership import run as membership_run
from tf_mtl_privacy.evaluation.membership.attacks import halves
from tf_mtl_privacy.evaluation.membership.run import MembershipResult
from tf_mtl_privacy.evaluation.probes.saved import networks, weights_digest
from tf_mtl_privacy.evaluation.schema import Audit
from tf_mtl_privacy.privacy.noise_record import NOISE
from tf_mtl_privacy.reporting import audit_run
from tf_mtl_privacy.reporting import audit_run as audit_module
from tf_mtl_privacy.reporting.reconcile_probes import leakage
from tf_mtl_privacy.training.saved_run import load_run

FIGURES = {
    "members",
    "non_members",
    "auc",
    "auc_ci95",
    "advantage",
    "advantage_ci95",
    "tpr_at_fpr",
    "roc",
}


@pytest.fixture
def run_dir(trained, tmp_path, monkeypatch):
    """A copy of the tiny run; the inversion attack uses a tiny decoder."""
    small = inversion.InversionBudget(32, 24, DecoderBudget(8, 1, 1, 1e-3))
    monkeypatch.setitem(inversion.INVERSION_BUDGETS, "fast", small)
    return shutil.copytree(trained[0], tmp_path / "run")


def audited(*arguments):
    return execute("audit", list(arguments))


def read(folder):
    return json.loads((folder / "audit.json").read_text())


def test_audit_finished_run_writes_every_part(run_dir, capsys):
    assert audited(f"--run_dir={run_dir}", "--setting=fast", "--rows=64", "--verbose") == 0
    shown = capsys.readouterr()
    found = read(run_dir)
    assert mismatches(found, Audit) == []
    assert (found["schema_version"], found["setting"], found["run_dir"]) == (1, "fast", "run")
    assert found["contradictions"] == [] and found["config"]["data"]["train_rows"] == 64
    membership = found["membership"]
    assert membership["data"]["members"] == 64
    assert membership["data"]["same_distribution"]["ok"]
    # So few rows cannot show it, and no other run shows that attacks can find anything.
    assert membership["data"]["same_distribution"]["state"] == "not_shown"
    assert membership["verdict"] == "no_power" and "too few rows" in membership["verdict_reason"]
    assert set(membership["business"]) >= {
        "loss",
        "entropy",
        "modified_entropy",
        "margin",
        "logistic",
        "lira_heads_offline",
        "lira_heads_online",
    }
    assert set(membership["features"]) >= {"reencoding_distance", "logistic"}
    assert set(membership["release"]) >= {"restoration_error", "logistic"}
    best = membership["strongest"]
    assert membership[best["target"]][best["attack"]] == {key: best[key] for key in FIGURES}
    # The tiny run's reporting half.
    assert membership["business"]["entropy"]["members"] == 32
    assert best["tpr_at_fpr"]["0.001"] == {"value": None, "ci95": None}
    assert {"psnr_db", "ssim", "retrieval_rank1"} <= set(found["inversion"])
    assert found["inversion"]["attacker_people"] == "other"
    assert found["weights"] == weights_digest(networks(load_run(run_dir)))
    assert found["dp_audit"]["verdict"] == "no_claim"
    # No fresh attackers ran on this run, and no shadow models: both are said.
    left_out = {part["what"] for part in found["not_done"]}
    assert left_out == {"attributes", "lira_offline, lira_online"}
    assert all(len(line) <= 100 for line in shown.out.splitlines())
    for words in ("Findings, the worst first", "nversion", "No claim to test", "modified entropy"):
        assert words in shown.out


@pytest.mark.parametrize("noise", [NOISE, None])
def test_audit_attack_above_the_claim_exits_with_3(run_dir, monkeypatch, capsys, noise):
    status = json.loads((run_dir / "training.json").read_text())
    status["dp"]["released"] = dict.fromkeys(status["dp"]["released"], 0.5)
    status["dp"]["noise"] = noise
    (run_dir / "training.json").write_text(json.dumps(status))
    no_test = {"verdict": "no_claim", "text": "No claim to test."}
    monkeypatch.setattr(audit_run, "epsilon_part", lambda audited: no_test)

    def knows_all(outputs, split, *rest):
        return {("business", "planted"): split.member.astype(float)}

    monkeypatch.setattr(membership_run, "attack_scores", knows_all)
    if noise is None:
        # An epsilon that does not hold is no claim that an attack could contradict.
        assert audited(f"--run_dir={run_dir}", "--rows=64") == 0
        assert read(run_dir)["contradictions"] == []
        return
    assert audited(f"--run_dir={run_dir}", "--rows=64") == 3
    (sentence,) = read(run_dir)["contradictions"]
    assert "business: the attack planted" in sentence and "0.5" in sentence
    assert "CONTRADICTED" in capsys.readouterr().out


def test_audit_unwritable_output_fails_before_attacks(run_dir, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(audit_run, "membership_part", None)
    output = tmp_path / "nowhere" / "audit.json"
    assert audited(f"--run_dir={run_dir}", f"--output={output}") == 1
    assert f"cannot write {output}: No such file" in capsys.readouterr().err


def test_audit_failure_keeps_finished_parts(run_dir, monkeypatch):
    def failing(audited):
        raise RunError("the disk is gone")

    monkeypatch.setattr(audit_run, "inversion_part", failing)
    found = {"verdict": "contradicted", "text": "Contradicted: planted."}
    monkeypatch.setattr(audit_run, "epsilon_part", lambda audited: found)
    assert audited(f"--run_dir={run_dir}", "--rows=24") == 1
    kept = json.loads((run_dir / "audit" / "unfinished.json").read_text())
    assert kept["contradictions"] == ["Contradicted: planted."] and "business" in kept["membership"]
    assert not (run_dir / "audit.json").exists()
    monkeypatch.setattr(audit_run, "inversion_part", lambda audited: None)
    assert audited(f"--run_dir={run_dir}", "--rows=24") == 3
    assert not (run_dir / "audit" / "unfinished.json").exists()


def test_audit_contradicting_canaries_exit_with_3(run_dir, monkeypatch):
    found = {"verdict": "contradicted", "text": "Contradicted: planted."}
    monkeypatch.setattr(audit_run, "epsilon_part", lambda audited: found)
    assert audited(f"--run_dir={run_dir}", "--rows=24") == 3
    assert read(run_dir)["contradictions"] == ["Contradicted: planted."]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--run_dir={empty}",), "config.json"),
        (("--run_dir={empty}/none",), "no such folder"),
        (("--run_dir={run}", "--shadows=3"), "--shadows=3: expected 0 or an even number >= 4"),
        (("--run_dir={run}", "--shadows=2"), "--shadows=2: expected 0 or an even number >= 4"),
        (("--run_dir={run}", "--overfit_reference_run={empty}"), "--overfit_reference_run"),
        (("--run_dir={run}", "--data_seed=5"), "not the data that the run was trained on"),
        (("--run_dir={run}", "--setting=slow"), "slow"),
        (("--saved_model={empty}",), "no saved_model.pb"),
    ],
)
def test_wrong_requests_are_one_line(trained, tmp_path, capsys, flags, named):
    places = {"run": trained[0], "empty": tmp_path}
    assert audited(*(flag.format(**places) for flag in flags)) == 2
    error = capsys.readouterr().err
    assert named in error and error.count("error: ") == 1


@pytest.mark.slow
@pytest.mark.usefixtures("untraced_here")
def test_audit_shadow_models_are_reused_and_train_on_as_many_rows(run_dir, monkeypatch):
    trained_on, train = [], parts._train_shadow
    monkeypatch.setattr(audit_run, "inversion_part", lambda audited: None)

    def counted(audited, number, rows, place):
        trained_on.append(len(rows.numbers))
        return train(audited, number, rows, place)

    monkeypatch.setattr(parts, "_train_shadow", counted)
    for _ in range(2):
        assert audited(f"--run_dir={run_dir}", "--shadows=4", "--rows=64") == 0
    assert trained_on == [64] * 4
    assert {"lira_offline", "lira_online"} <= set(read(run_dir)["membership"]["business"])
    kept = sorted(path.name for path in (run_dir / "audit" / "shadows").iterdir())
    assert kept == [*(f"logits_{number}.npy" for number in range(4)), "plan.json"]


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The folder with the versions of the exported tiny run."""
    folder = tmp_path_factory.mktemp("exported") / "tiny"
    arguments = [f"--run_dir={trained[0]}", f"--export_dir={folder}", "--name=tiny"]
    assert execute("export", arguments) == 0
    return folder


def test_audit_of_an_exported_run_from_outside(exported, cache_dir, tmp_path):
    output = tmp_path / "audit.json"
    flags = (f"--saved_model={exported}", f"--cache_dir={cache_dir}", f"--output={output}")
    assert audited(*flags, "--rows=40") == 0
    found = json.loads(output.read_text())
    assert found["run_dir"] == "tiny" and found["config"]["data"]["image_size"] == 32
    assert "restoration_error" in found["membership"]["release"]
    assert "reencoding_distance" in found["membership"]["features"]


def test_audit_of_a_model_that_crops_is_refused(exported, tmp_path, capsys):
    version = shutil.copytree(exported / "1", tmp_path / "model" / "1")
    path = version / "assets.extra" / "labels.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"crop": "inner"}))
    assert audited(f"--saved_model={tmp_path / 'model'}", "--rows=40") == 2
    error = capsys.readouterr().err
    assert "crops its input" in error and "--run_dir" in error


class Remembers(tf.Module):
    """Predicts the same for every picture, with more confidence for training pictures."""

    def __init__(self, seen):
        super().__init__()
        self.sums = tf.constant(seen, tf.int64)

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="images")])
    def classify(self, images):
        sums = tf.reduce_sum(tf.cast(images, tf.int64), axis=(1, 2, 3))
        known = tf.reduce_any(sums[:, None] == self.sums, axis=1)
        sure = tf.where(known, 0.99, 0.6)
        said = tf.stack([1 - sure, sure], axis=1)
        return {"gender_probabilities": said, "gender_label": tf.fill(tf.shape(sums), "male")}

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.uint8, name="images")])
    def encode(self, images):
        return {"features": tf.image.resize(tf.cast(images, tf.float32) / 255, [8, 8])}


def test_audit_of_an_exported_overfitted_model_detects_members(tmp_path, cache_dir, capsys):
    data = DataConfig(
        image_size=32, train_rows=64, validation_rows=24, test_rows=40, cache_dir=str(cache_dir)
    )
    dataset = open_dataset(data)
    sums = dataset.store.images(dataset.rows["train"]).sum(axis=(1, 2, 3), dtype=np.int64)
    model = Remembers(sums)
    version = tmp_path / "export" / "3"
    tf.saved_model.save(
        model, str(version), signatures={"classify": model.classify, "encode": model.encode}
    )
    (version / "assets.extra").mkdir()
    labels = {"tasks": [{"task": "gender", "classes": list(dataset.task_classes["gender"])}]}
    labels["image_size"] = 32
    (version / "assets.extra" / "labels.json").write_text(json.dumps(labels))
    saved = {"data": {"dataset": "synthetic_faces", "image_size": 32, "train_rows": 64}}
    saved["data"] |= {"validation_rows": 24, "test_rows": 40}
    (version / "assets.extra" / "config.json").write_text(json.dumps(saved))

    flags = (f"--saved_model={tmp_path / 'export'}", f"--cache_dir={cache_dir}", "--rows=64")
    assert audited(*flags, "--verbose") == 0
    found = read(tmp_path / "export")
    assert found["run_dir"] == "export"
    assert found["membership"]["business"]["entropy"]["auc"] > 0.95
    # The encoder says nothing of it, but who has features asks the classifier about them.
    assert found["membership"]["features"]["logistic"]["auc"] > 0.95
    left_out = {part["what"] for part in found["not_done"]}
    assert {"lira", "restoration_error", "attributes", "inversion", "dp_audit"} <= left_out
    assert "Not tested" in capsys.readouterr().out
    assert audited(*flags, "--image_size=64") == 2


def test_audit_raises_leakage_in_results_json(tmp_path):
    figures = {"name": "x", "accuracy": 0.15, "balanced_accuracy": 0.15, "ci95": [0.1, 0.22]}
    probe = {"setting": "fast", "weights": "w", "features": {"strongest": figures}}
    privacy = {"classes": 8, "chance": 0.125, "probe": probe}
    results = {"schema_version": 1, "privacy": privacy, "config": {}}
    results["privacy"]["leakage"] = leakage(results)
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    strongest = figures | {"accuracy": 0.48, "balanced_accuracy": 0.48, "ci95": [0.4, 0.52]}
    audit = {
        "weights": "w",
        "config": {},
        "attributes": {"setting": "thorough", "features": {"strongest": strongest}},
    }
    audit_module._raise_leakage(tmp_path, audit | {"weights": "other"})
    assert json.loads(path.read_text()) == results
    audit_module._raise_leakage(tmp_path, audit)
    found = json.loads(path.read_text())["privacy"]["leakage"]
    assert (found["worst"]["accuracy"], found["worst"]["upper"]) == (0.48, 0.52)
    assert found["worst"]["source"] == "thorough attackers of the audit"
    # Without a result there is nothing to raise.
    audit_module._raise_leakage(tmp_path / "empty", audit)


def test_contradictions_with_several_pictures_per_person_are_withheld():
    claim = {"delta": 1e-5, "released": dict.fromkeys(("encoder", "business"), 0.5)}
    split = halves(200, 200, 0)
    found = MembershipResult({}, {("business", "loss"): split.member.astype(float)}, split)
    for person, names in ((np.arange(9), 1), (np.arange(9) // 2, 0), (np.full(9, -1), 1)):
        dataset = types.SimpleNamespace(person=person, rows={"train": np.arange(9)})
        run = types.SimpleNamespace(status={"dp": claim})
        audited_run = audit_parts.Audited(run, dataset, None, "fast", 0, [])
        parts = audit_parts.contradiction_parts(audited_run, found, "ok", {"verdict": "holds"})
        assert len(parts["contradictions"]) == names
        assert len(parts["contradictions_withheld"]) == 1 - names
        for part in parts["contradictions_withheld"]:
            assert part["what"].startswith("business: ") and "one picture" in part["why"]
    parts = audit_parts.contradiction_parts(audited_run, found, "invalid", {"verdict": "holds"})
    assert "without any model" in parts["contradictions_withheld"][0]["why"]


def test_power_part_needs_another_run_of_the_same_networks(tmp_path):
    config = tiny_config("mtl_adv")
    at = {"0.05": {"value": 0.9, "ci95": [0.8, 0.95]}}
    best = {"target": "business", "attack": "loss", "tpr_at_fpr": at}
    other = {
        "schema_version": 1,
        **{"run_dir": "other", "weights": "a", "setting": "fast", "config": config.to_dict()},
        "membership": {"strongest": best, "data": {"members": 9}},
    }

    def asked(weights="b", setting="fast", **model):
        changed = dataclasses.replace(config, model=dataclasses.replace(config.model, **model))
        return power_part(str(tmp_path), changed, weights, setting)

    assert power_part("", config, "b", "fast") is None
    (tmp_path / "audit.json").write_text(json.dumps(other))
    assert asked() == {"run_dir": "other", "data": {"members": 9}, **best}
    for options, words in (
        ({"weights": "a"}, "is the run under audit"),
        ({"setting": "thorough"}, "was audited with --setting=fast"),
        ({"feature_channels": 9}, "has --feature_channels=4, this run --feature_channels=9"),
    ):
        with pytest.raises(UsageError, match=f"--overfit_reference_run={tmp_path}: {words}"):
            asked(**options)
    (tmp_path / "audit.json").write_text(json.dumps({**other, "membership": {"strongest": {}}}))
    with pytest.raises(UsageError, match="expected the folder of an audited run"):
        asked()


def test_shadow_count_depends_on_training_time_and_setting():
    assert audit_parts.shadow_count(-1, "thorough", 300.0)[0] > 0
    for asked, setting, seconds in [(-1, "fast", 300.0), (-1, "thorough", 3_600.0), (0, "fast", 1)]:
        count, reason = audit_parts.shadow_count(asked, setting, seconds)
        assert count == 0 and reason
    assert audit_parts.shadow_count(4, "fast", 3_600.0) == (4, "")
