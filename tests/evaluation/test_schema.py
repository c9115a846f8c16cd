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
    read_audit,
    read_results,
    write_audit,
    write_results,
)

STORED = {
    path.name: json.loads(path.read_text())
    for path in sorted((Path(__file__).parents[2] / "docs" / "results").glob("*.json"))
}
RESULTS = [name for name, content in STORED.items() if "subgroups" in content]
AUDITS = [name for name, content in STORED.items() if "dp_audit" in content]


@pytest.mark.parametrize("name", RESULTS)
def test_stored_results_match_their_type(name):
    assert mismatches(STORED[name], Results) == []


@pytest.mark.parametrize("name", AUDITS)
def test_stored_audit_matches_its_type(name):
    assert mismatches(STORED[name], Audit) == []


def test_stored_files_are_found():
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
    written = {**STORED["demo.json"], "dp": {"epsilon_pld": None, "epsilon_rdp": None}}
    write_results(path, written)
    assert read_results(path) == written


def test_read_audit_returns_what_was_written(tmp_path):
    path = tmp_path / "audit.json"
    assert read_audit(path) is None
    write_audit(path, STORED["demo_audit.json"])
    assert read_audit(path) == STORED["demo_audit.json"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"schema_version": 2}'])
def test_reading_another_version_is_refused(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(RunError, match=r"expected 1; evaluate the run again"):
        read_results(path)
    with pytest.raises(RunError, match=r"expected 1; audit the run again"):
        read_audit(path)
