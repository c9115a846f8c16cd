"""The report's section on the audit, and what the paper's table has of it."""

import pytest

from tests.reporting.audits import make_audit
from tests.reporting.report.parts import blocks, table
from tests.reporting.report.runs import kept_results, write_run
from tf_mtl_privacy.reporting.build import build_report
from tf_mtl_privacy.reporting.document import Missing
from tf_mtl_privacy.reporting.run_folder import read_run
from tf_mtl_privacy.reporting.sections import membership


def test_membership_has_every_attack_the_chosen_one_and_the_power(whole, tmp_path):
    rows = {row.cells[0]: row.cells for row in table(whole, "Membership inference").rows}
    assert rows["chosen: modified entropy on the classifier's answers"][2:] == (
        "0.514 (0.503–0.525)",
        "0.021 (0.010–0.040)",
        "–",
        "1.3 % (1.0–1.7 %)",
        "5.8 % (5.1–6.6 %)",
    )
    assert rows["to show the attacks' power, the run overfitted"][2] == "0.930 (0.920–0.940)"
    assert {"the features", "all that is released"} <= set(rows)
    assert any("0.1 %" in note for note in table(whole, "Membership inference").notes)
    audit = make_audit(kept_results())
    audit["membership"]["power"] = None
    report = build_report(read_run(write_run(tmp_path / "a", audit=audit)))
    (missing,) = blocks(report, Missing, "audit")
    assert "--power_run=" in missing.command
    # 5.8 % (5.1–6.6 %) at 5 % false positives is no low figure.
    assert report.tiles[-1].value == "5.8 %" and "what was found is real" in report.tiles[-1].note
    audit["membership"]["verdict"] = "invalid"
    report = build_report(read_run(write_run(tmp_path / "b", audit=audit)))
    assert report.tiles[-1].value == "not measured" and "say nothing" in report.tiles[-1].note


@pytest.mark.parametrize(
    ("verdict", "cell", "note"),
    [
        ("ok", "5.8 %, upper end 6.6 %", ""),
        (
            "no_power",
            "5.8 %, upper end 6.6 %; power not shown",
            "Power not shown: nothing shows that",
        ),
        (
            "invalid",
            "not measured: members and others differ without any model",
            "figures of membership inference say nothing",
        ),
    ],
)
def test_beside_the_paper_s_figure_stands_what_ours_is_worth(tmp_path, verdict, cell, note):
    audit = make_audit(kept_results())
    audit["membership"]["verdict"] = verdict
    run = read_run(write_run(tmp_path / "a", audit=audit))
    other = read_run(write_run(tmp_path / "b", audit=False))
    report = build_report(run, [other])
    third = table(report, "Table 3")
    rows = {row.cells[1]: row.cells for row in third.rows if row.own}
    assert rows["a"][5] == cell and rows["b"][5] == "not measured"
    told = [text for text in third.notes if "Power not" in text or "say nothing" in text]
    assert (note in told[0]) if note else not told
    # Where runs stand beside one another it is the audit's, too, and marked.
    beside = table(report, "This run and others")
    (cells,) = [row.cells for row in beside.rows if row.cells[0] == "membership inference"]
    assert cells[1] == {"ok": "5.8 %", "no_power": "5.8 % !", "invalid": "not measured"}[verdict]
    # Without an audit, what the stop rule read during training.
    quick = kept_results()["stop_rule"]["parts"]["membership"]["value"]
    assert cells[2].startswith(f"{100 * quick:.1f} %")
    told = {"ok": "", "no_power": "! Nothing shows", "invalid": "membership inference of a."}
    assert told[verdict] in " ".join(beside.notes)


def test_nothing_found_is_a_figure_and_not_a_lack_of_pictures(tmp_path):
    audit = make_audit(kept_results())
    nobody = {"value": 0.0, "ci95": [0.0, 0.002]}
    audit["membership"]["strongest"]["tpr_at_fpr"]["0.001"] = nobody
    found = table(build_report(read_run(write_run(tmp_path / "a", audit=audit))), "Membership inf")
    (row,) = [row.cells for row in found.rows if row.own]
    assert row[4] == "0.0 % (0.0–0.2 %)" and found.notes == ()


def test_every_attack_s_curve_is_drawn_and_only_the_chosen_one_is_thick(monkeypatch):
    drawn = []
    monkeypatch.setattr(membership, "roc_chart", lambda curves, least: drawn.extend(curves) or b"")
    found = make_audit()["membership"]
    # The largest area here is not the attack that was chosen on the other half.
    found["business"]["entropy"]["auc"] = 0.9
    membership._roc(found, membership._curves(found))
    assert [(curve.group, curve.chosen) for curve in drawn] == [
        *[("the classifier's answers (2 attacks)", False)] * 2,
        ("the features (1 attack)", False),
        ("all that is released (1 attack)", False),
        ("chosen: modified entropy on the classifier's answers", True),
    ]
