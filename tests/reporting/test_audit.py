"""The audit in the terminal, in the report and beside the paper's figures."""

import json

import pytest

from tests.reporting.audits import make_audit
from tests.reporting.probes import whole_probe
from tests.reporting.report.parts import blocks, table
from tests.reporting.report.runs import RESULTS, kept_results, write_run
from tf_mtl_privacy.reporting.audit_findings import auc_text
from tf_mtl_privacy.reporting.build import build_report
from tf_mtl_privacy.reporting.document import Missing
from tf_mtl_privacy.reporting.formats import decibel, interval, percent
from tf_mtl_privacy.reporting.privacy_card import privacy_card
from tf_mtl_privacy.reporting.render_text import render_text
from tf_mtl_privacy.reporting.runs import read_run
from tf_mtl_privacy.reporting.sections import audit as section
from tf_mtl_privacy.reporting.sections.audit import audit_summary, audit_text


def words(text):
    return " ".join(text.split())


def test_audit_text_has_every_finding_of_the_card(results):
    audit = make_audit(results, attributes=whole_probe())
    text = audit_text(audit)
    assert all(len(line) <= 100 for line in text.splitlines() if "python -m" not in line)
    told = words(text)
    card = privacy_card(results, audit)
    audited = [part for part in card["attacked"] if not part["what"].startswith("the iris")]
    assert len(audited) == 4
    for part in audited:
        assert f"{part['what']}: {part['finding']}"[1:] in told
    # 152 of 1000 in tests/reporting/probes.py; what a result of the same weights has counts, too.
    assert "(fresh attackers, thorough): 15.2 % from features (upper bound 17.6 %)" in told
    results["privacy"]["probe"]["restored"]["strongest"] |= {"accuracy": 0.6, "ci95": [0.5, 0.65]}
    told = words(audit_text(audit, results))
    assert "60.0 % from restored images (upper bound 65.0 %); chance 12.5 %" in told


def findings_of(audit):
    """Sentences of the findings, in order."""
    items = next(iter(section.audit_blocks(audit, "RUN", chart=False)))
    return list(items.items)


def table_of(audit):
    return section._table(audit["membership"]).rows


def test_audit_findings_are_sorted_by_severity(results):
    audit = make_audit(results)
    more = {"0.05": {"value": 0.071, "ci95": [0.06, 0.085]}}
    audit["membership"]["features"]["logistic"]["tpr_at_fpr"] = more
    audit["membership"]["business"]["entropy"] |= {"auc": 0.6, "auc_ci95": [0.58, 0.62]}
    audit["inversion"] |= {"psnr_db": 18.0, "retrieval_rank1": 0.02}
    audit["inversion"]["retrieval_rank1_ci95"] = [0.01, 0.03]
    # At 5 % false positives the attack on features detects most, though another one was chosen.
    assert table_of(audit)[0].cells[:2] == ("the features", "logistic")
    membership, inversion = findings_of(audit)[:2]
    assert "(logistic on the features, the strongest of 5 attacks): AUC 0.509" in membership
    assert "highest AUC 0.600 (0.580–0.620), by entropy on the classifier's" in membership
    assert "attack chosen on the other half, modified entropy on the class" in membership
    # 2 * 0.62 - 1 = 0.24 of membership is more than the 3 % of images that are found again.
    assert inversion.startswith("Image inversion")
    # A decoder that recovers the image comes before everything else.
    audit["inversion"] |= {"psnr_db": 36.3, "retrieval_rank1": 1.0}
    audit["inversion"]["retrieval_rank1_ci95"] = [0.996, 1.0]
    assert "IMAGES CAN BE RECOVERED FROM THE FEATURES: PSNR 36.3 dB" in findings_of(audit)[0]
    assert "Worst finding" in render_text(audit_summary(audit))
    card = privacy_card(results, audit)
    assert card["attacked"][0]["what"].startswith("image inversion")
    assert "Images can be recovered from their features: an attacker's" in card["summary"]
    # Only a contradicted claim comes before it.
    told = words(audit_text(audit | {"contradictions": ["epsilon is at least 3"]}))
    assert told.index("does not hold: epsilon is at least 3") < told.index("Findings, the worst")


def test_audit_text_without_reference_run_says_that_power_is_not_shown():
    audit = make_audit()
    assert "Power check on the overfitted reference run overfitted" in words(audit_text(audit))
    audit["membership"]["power"] = None
    found = words(audit_text(audit))
    assert "Not shown; audit --overfit_reference_run=OVERFITTED_RUN_DIR" in found


def test_audit_text_of_differing_members_calls_the_figures_invalid():
    audit = make_audit()
    audit["membership"]["data"]["same_distribution"] = {
        "auc": 0.8,
        "ci95": [0.7, 0.9],
        "ok": False,
    }
    found = words(audit_text(audit))
    assert "Members and non-members differ without any model (AUC 0.800 (0.700" in found
    assert "Membership inference (" not in found
    assert found.count("Members and non-members differ") == 1
    assert "Power of the membership attacks" not in found


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize(
    "name",
    [
        "demo_audit",
        "demo_shadow_audit",
        "dp_all_audit",
        "memorising_audit",
        "synthetic_seed1_audit",
    ],
)
def test_audit_summary_of_a_stored_audit_fits_one_screen(name, width):
    audit = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    audit |= {"contradictions": ["epsilon is at least 3, claimed is 2"]}
    text = render_text(audit_summary(audit, None, {"runs/a/audit.json": ""}, width), width)
    lines = text.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= width
    assert "CONTRADICTED: epsilon is at least 3" in text and "runs/a/audit.json" in text
    for finding in section._findings(audit, None):
        assert finding.what[1:20] in words(text), finding


def test_audit_text_of_a_rounded_zero_has_no_sign():
    audit = make_audit()
    figures = audit["membership"]["business"]["loss"]
    figures |= {"advantage": -0.0001, "advantage_ci95": [-0.0002, -0.0001]}
    assert "-0.0 %" not in audit_text(audit)
    assert auc_text(figures, "advantage") == "0.000 (0.000–0.000)"
    assert percent(-0.0001) == "0.0 %" and interval([-0.0004, 0.01]) == "0.0–1.0 %"
    assert percent(-0.02) == "-2.0 %" and decibel(-0.01) == "0.0 dB"


def test_membership_table_has_all_attacks_the_chosen_one_and_the_reference_run(whole, tmp_path):
    rows = {row.cells[0]: row.cells for row in table(whole, "Membership inference").rows}
    assert rows["chosen: modified entropy on the classifier's outputs"][2:] == (
        "0.514 (0.503–0.525)",
        "0.021 (0.010–0.040)",
        "–",
        "1.3 % (1.0–1.7 %)",
        "5.8 % (5.1–6.6 %)",
    )
    assert (
        rows["power check on the overfitted reference run overfitted"][2] == "0.930 (0.920–0.940)"
    )
    assert {"the features", "everything released"} <= set(rows)
    assert any("0.1 %" in note for note in table(whole, "Membership inference").notes)
    audit = make_audit(kept_results())
    audit["membership"]["power"] = None
    report = build_report(read_run(write_run(tmp_path / "a", audit=audit)))
    (missing,) = blocks(report, Missing, "audit")
    assert "--overfit_reference_run=" in missing.command
    # 5.8 % (5.1–6.6 %) at 5 % false positives is no low figure.
    assert report.tiles[-1].value == "5.8 %" and "this leakage is real" in report.tiles[-1].note
    audit["membership"]["verdict"] = "invalid"
    report = build_report(read_run(write_run(tmp_path / "b", audit=audit)))
    assert report.tiles[-1].value == "not measured" and "not valid" in report.tiles[-1].note


@pytest.mark.parametrize(
    ("verdict", "cell", "note"),
    [
        ("ok", "5.8 %, upper bound 6.6 %", ""),
        (
            "no_power",
            "5.8 %, upper bound 6.6 %; power not shown",
            "Power not shown: nothing shows that",
        ),
        (
            "invalid",
            "not measured: members and non-members differ without any model",
            "membership inference figures are not valid",
        ),
    ],
)
def test_table_3_marks_membership_by_its_verdict(tmp_path, verdict, cell, note):
    audit = make_audit(kept_results())
    audit["membership"]["verdict"] = verdict
    run = read_run(write_run(tmp_path / "a", audit=audit))
    other = read_run(write_run(tmp_path / "b", audit=False))
    report = build_report(run, [other])
    third = table(report, "Table 3")
    rows = {row.cells[1]: row.cells for row in third.rows if row.own}
    assert rows["a"][5] == cell and rows["b"][5] == "not measured"
    told = [text for text in third.notes if "Power not" in text or "not valid" in text]
    assert (note in told[0]) if note else not told
    # A comparison of runs shows the audit's figure, too, and marks it.
    beside = table(report, "This run and others")
    (cells,) = [row.cells for row in beside.rows if row.cells[0] == "membership inference"]
    assert cells[1] == {"ok": "5.8 %", "no_power": "5.8 % !", "invalid": "not measured"}[verdict]
    # Without an audit, what the stop rule read during training.
    quick = kept_results()["stop_rule"]["parts"]["membership"]["value"]
    assert cells[2].startswith(f"{100 * quick:.1f} %")
    told = {
        "ok": "",
        "no_power": "! Membership inference without power",
        "invalid": "not valid, because members",
    }
    assert told[verdict] in " ".join(beside.notes)


def test_membership_rate_of_zero_is_shown_as_a_figure(tmp_path):
    audit = make_audit(kept_results())
    nobody = {"value": 0.0, "ci95": [0.0, 0.002]}
    audit["membership"]["strongest"]["tpr_at_fpr"]["0.001"] = nobody
    found = table(build_report(read_run(write_run(tmp_path / "a", audit=audit))), "Membership inf")
    (row,) = [row.cells for row in found.rows if row.own]
    assert row[4] == "0.0 % (0.0–0.2 %)" and not any("Not stated" in note for note in found.notes)


def test_roc_draws_all_attacks_and_only_the_chosen_one_thick(monkeypatch):
    drawn = []
    monkeypatch.setattr(section, "roc_chart", lambda curves, least: drawn.extend(curves) or b"")
    found = make_audit()["membership"]
    # The largest area here is not the attack that was chosen on the other half.
    found["business"]["entropy"]["auc"] = 0.9
    section._roc(found, section._curves(found))
    assert [(curve.group, curve.chosen) for curve in drawn] == [
        *[("the classifier's outputs (2 attacks)", False)] * 2,
        ("the features (1 attack)", False),
        ("everything released (1 attack)", False),
        ("chosen: modified entropy on the classifier's outputs", True),
    ]
