"""What an audit decides before and after its attacks: shadows, power, what contradicts a claim."""

import dataclasses
import json
import types

import numpy as np
import pytest

from tests.training.tiny import tiny_config
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.audit import parts as audit_parts
from tf_mtl_privacy.evaluation.audit.reference_run import power_part
from tf_mtl_privacy.evaluation.membership.attacks import halves
from tf_mtl_privacy.evaluation.membership.run import Membership
from tf_mtl_privacy.reporting import audit_run as audit_module
from tf_mtl_privacy.reporting.reconcile_probes import leakage


def test_audit_raises_the_leakage_that_results_json_states(tmp_path):
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


def test_where_people_have_several_pictures_a_claim_on_one_is_not_tested_by_membership():
    claim = {"delta": 1e-5, "released": dict.fromkeys(("encoder", "business"), 0.5)}
    split = halves(200, 200, 0)
    found = Membership({}, {("business", "loss"): split.member.astype(float)}, split)
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


def test_only_another_run_of_the_same_networks_shows_power(tmp_path):
    config = tiny_config("mtl_adv")
    at = {"0.05": {"value": 0.9, "ci95": [0.8, 0.95]}}
    best = {"target": "business", "attack": "loss", "tpr_at_fpr": at}
    other = {
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
        ({"weights": "a"}, "is this run itself"),
        ({"setting": "thorough"}, "was audited with --setting=fast"),
        ({"feature_channels": 9}, "has --feature_channels=4, this run --feature_channels=9"),
    ):
        with pytest.raises(UsageError, match=f"--power_run={tmp_path}: {words}"):
            asked(**options)
    (tmp_path / "audit.json").write_text(json.dumps({**other, "membership": {"strongest": {}}}))
    with pytest.raises(UsageError, match="expected the folder of a run that was audited"):
        asked()


def test_shadows_are_trained_where_training_is_short_and_the_audit_is_thorough():
    assert audit_parts.shadow_count(-1, "thorough", 300.0)[0] > 0
    for asked, setting, seconds in [(-1, "fast", 300.0), (-1, "thorough", 3_600.0), (0, "fast", 1)]:
        count, reason = audit_parts.shadow_count(asked, setting, seconds)
        assert count == 0 and reason
    assert audit_parts.shadow_count(4, "fast", 3_600.0) == (4, "")
