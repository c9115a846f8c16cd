"""The audit's table in the terminal says what the card says, in the same words."""

import itertools

from tests.reporting.audits import make_audit
from tests.reporting.probes import whole_probe
from tf_mtl_privacy.reporting.audit_lines import audit_table
from tf_mtl_privacy.reporting.formats import decibel, interval, percent
from tf_mtl_privacy.reporting.membership_words import auc_text
from tf_mtl_privacy.reporting.privacy_card import privacy_card


def words(text):
    return " ".join(text.split())


def test_every_finding_of_the_card_is_in_the_table(results):
    audit = make_audit(results, attributes=whole_probe())
    table = audit_table(audit)
    assert all(len(line) <= 96 for line in table.splitlines())
    told = words(table)
    card = privacy_card(results, audit)
    audited = [part for part in card["attacked"] if not part["what"].startswith("the iris")]
    assert len(audited) == 4
    for part in audited:
        assert f"{part['what']}: {part['finding']}" in told
    # 152 of 1000 in tests/reporting/probes.py; what a result of the same weights has counts, too.
    assert "fresh attackers (thorough): 15.2 % from features (upper end 17.6 %)" in told
    results["privacy"]["probe"]["restored"]["strongest"] |= {"accuracy": 0.6, "ci95": [0.5, 0.65]}
    told = words(audit_table(audit, results))
    assert "60.0 % from restored images (upper end 65.0 %); chance 12.5 %" in told


def rows_of(table):
    lines = table.splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("Membership attack"))
    names = (line.split("  ")[0] for line in lines[start + 1 :])
    return list(itertools.takewhile(bool, names))


def test_worst_finding_leads_and_attacks_are_sorted(results):
    audit = make_audit(results)
    more = {"0.05": {"value": 0.071, "ci95": [0.06, 0.085]}}
    audit["membership"]["features"]["logistic"]["tpr_at_fpr"] = more
    audit["membership"]["business"]["entropy"] |= {"auc": 0.6, "auc_ci95": [0.58, 0.62]}
    audit["inversion"] |= {"psnr_db": 18.0, "retrieval_rank1": 0.02}
    audit["inversion"]["retrieval_rank1_ci95"] = [0.01, 0.03]
    table = audit_table(audit)
    told = words(table)
    # At 5 % false positives the attack on features finds most, though another one was chosen.
    assert rows_of(table)[0] == "features: logistic" and len(rows_of(table)) == 4
    assert "(by logistic on the features, the highest of 5 attacks): AUC 0.509" in told
    assert "the highest AUC is 0.600 (0.580–0.620), by entropy on the classifier's" in told
    assert "the attack that the other half chose, modified entropy on the class" in told
    # 2 * 0.62 - 1 = 0.24 of membership is more than the 3 % of pictures that are found again.
    assert told.index("Worst finding membership of") < told.index("Membership attack")
    assert told.rindex("Membership membership of") < told.index("Inversion the picture")
    # A decoder that gives the picture back comes before all of it.
    audit["inversion"] |= {"psnr_db": 36.3, "retrieval_rank1": 1.0}
    audit["inversion"]["retrieval_rank1_ci95"] = [0.996, 1.0]
    told = words(audit_table(audit))
    assert "Worst finding the picture itself, by a decoder" in told
    assert "THE FEATURES GIVE THE PICTURE BACK: PSNR 36.3 dB" in told
    card = privacy_card(results, audit)
    assert card["attacked"][0]["what"].startswith("the picture itself")
    assert "The features give the picture back: a decoder" in card["summary"]
    # A contradicted claim comes before everything.
    told = words(audit_table(audit | {"contradictions": ["epsilon is at least 3"]}))
    assert told.index("CONTRADICTED epsilon is at least 3") < told.index("Worst finding")


def test_power_that_nobody_showed_is_said():
    audit = make_audit()
    assert "Power of attacks to show the attacks' power, the run overfitted" in words(
        audit_table(audit)
    )
    audit["membership"]["power"] = None
    found = words(audit_table(audit))
    assert "Power of attacks not shown; audit --power_run=OVERFITTED_RUN_DIR" in found


def test_figures_that_are_not_of_membership_are_called_so():
    audit = make_audit()
    audit["membership"]["data"]["same_distribution"] = {
        "auc": 0.8,
        "ci95": [0.7, 0.9],
        "ok": False,
    }
    found = words(audit_table(audit))
    assert "Membership Members and others differ without any model (AUC 0.800 (0.700" in found
    assert "membership of a picture" not in found
    assert found.count("Members and others differ") == 1 and "Power of attacks" not in found


def test_what_rounds_to_zero_has_no_sign():
    audit = make_audit()
    figures = audit["membership"]["business"]["loss"]
    figures |= {"advantage": -0.0001, "advantage_ci95": [-0.0002, -0.0001]}
    assert "-0.0 %" not in audit_table(audit)
    assert auc_text(figures, "advantage") == "0.000 (0.000–0.000)"
    assert percent(-0.0001) == "0.0 %" and interval([-0.0004, 0.01]) == "0.0–1.0 %"
    assert percent(-0.02) == "-2.0 %" and decibel(-0.01) == "0.0 dB"
