"""results.json and audit.json, stored and fresh, against the types of evaluation/schema.py."""

import copy
import json
from pathlib import Path

import pytest

from tests.evaluation.typed import mismatches
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.evaluation.schema import (
    Audit,
    Results,
    current_name,
    former_name,
    read_audit,
    read_results,
    write_audit,
    write_results,
)

STORED = {
    path.name: json.loads(path.read_text())
    for path in sorted((Path(__file__).parents[2] / "docs" / "results").glob("*.json"))
}
RESULTS = [name for name, content in STORED.items() if "evaluated_on" in content]
AUDITS = [name for name, content in STORED.items() if "dp_audit" in content]


@pytest.mark.parametrize("name", RESULTS)
def test_stored_results_match_their_type(name):
    assert mismatches(STORED[name], Results) == []


@pytest.mark.parametrize("name", AUDITS)
def test_stored_audit_matches_its_type(name):
    assert mismatches(STORED[name], Audit) == []


def test_stored_results_and_audits_exist():
    assert len(RESULTS) >= 12 and len(AUDITS) >= 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda found: found.update(extra=1), ".extra: unknown key"),
        (lambda found: found.pop("seed"), ".seed: missing"),
        (lambda found: found.update(seed="0"), ".seed: '0' is not <class 'int'>"),
        (lambda found: found.update(seed=True), ".seed: True is not <class 'int'>"),
        (
            lambda found: found["privacy"]["probe"]["features"].update(rows=None),
            ".privacy.probe.features.rows: None is not <class 'int'>",
        ),
        (
            lambda found: found["utility"]["gender"].update(ci95=["a", 1]),
            ".utility.gender.ci95[0]: 'a' is not <class 'float'>",
        ),
        (
            lambda found: found["privacy"]["probe"].update(iris={}),
            ".privacy.probe.iris: unknown key",
        ),
    ],
)
def test_mismatches_with_a_planted_error_names_its_place(change, message):
    found = copy.deepcopy(STORED["demo.json"])
    change(found)
    assert mismatches(found, Results) == [message]


def test_read_results_returns_what_was_written(tmp_path):
    path = tmp_path / "results.json"
    written = {
        **STORED["photographs_dp_all.json"],
        "dp": {"epsilon_pld": None, "epsilon_rdp": None},
    }
    write_results(path, written)
    assert read_results(path) == written


def test_read_audit_returns_what_was_written(tmp_path):
    path = tmp_path / "audit.json"
    assert read_audit(path) is None
    written = STORED["demo_audit.json"] | {"attributes": None}
    write_audit(path, written)
    assert read_audit(path) == written


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema_version": 2}'])
def test_reading_another_version_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"expected 1; evaluate the run again"):
        read_results(path)
    with pytest.raises(RunError, match=r"expected 1; audit the run again"):
        read_audit(path)


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("soft_whitened", "softmax_pool_cnn_whitened"),
        ("placed_raw", "positional_cnn_raw"),
        ("local_standardised_x4", "patch_cnn_standardised_x4"),
        ("gender/local_raw", "gender/patch_cnn_raw"),
        ("logistic_raw", "logistic_raw"),
        ("discriminator", "discriminator"),
    ],
)
def test_current_name_of_a_former_attacker_name(former, current):
    assert current_name(former) == current == current_name(current)
    assert current_name(former_name(current)) == current


def test_read_results_names_attackers_by_their_present_families(tmp_path):
    write_results(tmp_path / "results.json", STORED["demo.json"])
    stored = STORED["demo.json"]["privacy"]["probe"]["features"]
    assert "soft_whitened" in stored["attackers"]
    read = read_results(tmp_path / "results.json")["privacy"]["probe"]["features"]
    assert read["attackers"] == {current_name(k): v for k, v in stored["attackers"].items()}
    assert "softmax_pool_cnn_whitened" in read["attackers"]
    assert read["strongest"]["name"] == current_name(stored["strongest"]["name"])
