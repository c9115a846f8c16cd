"""Verdicts on membership inference figures in the card and the terminal."""

import pytest

from tests.reporting.audits import attack_figures, make_audit
from tests.reporting.test_privacy_card import attacked, gaps, sentences
from tf_mtl_privacy.reporting.audit_findings import membership_verdict
from tf_mtl_privacy.reporting.privacy_card import privacy_card
from tf_mtl_privacy.reporting.sections.audit import audit_text


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ({"auc": 0.8, "ci95": None, "ok": False}, "differ without any model (AUC 0.800)"),
        ({"auc": 0.8, "ci95": [0.7, 0.9], "ok": False}, "differ without any model (AUC 0.800 (0"),
    ],
)
def test_members_that_differ_without_a_model_void_the_figures(results, check, words):
    audit = make_audit(results)
    audit["membership"]["data"]["same_distribution"] = check
    card = privacy_card(results, audit)
    assert words in sentences(card)
    # No figure of theirs is left, and the question counts as open.
    assert not any("membership" in what or "power" in what for what in attacked(card))
    assert words in gaps(card)["membership in the training set"]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"power": None}, "not shown; {command}"),
        (
            {"power": None, "verdict": "no_power", "verdict_reason": "why"},
            "not shown: why; {command}",
        ),
        ({"verdict": "no_power", "verdict_reason": "few rows"}, "not shown: few rows"),
        ({"verdict": "no_power"}, "not shown: the attacks also detected too little in overfitted"),
    ],
)
def test_membership_without_power_check_is_reported_as_a_gap(results, changes, why):
    audit = make_audit(results)
    audit["membership"] |= changes
    card = privacy_card(results, audit, "runs/a")
    command = (
        "python -m tf_mtl_privacy.audit --run_dir=runs/a --setting=fast --overfit_reference_run="
    )
    wanted = why.format(command=f"{command}OVERFITTED_RUN_DIR")
    assert gaps(card)["power of the membership attacks"] == wanted
    (found,) = [
        text for what, text in attacked(card).items() if what.startswith("membership inference")
    ]
    # Here the intervals lie above chance: that is no low figure.
    assert found.endswith(
        "this leakage is real, and stronger attacks may find more (power not shown)"
    )
    assert "low figure" not in found


def test_card_states_membership_inference_above_chance(results):
    audit = make_audit(results)
    card = privacy_card(results, audit)
    told = (
        "embership inference succeeds better than chance on average "
        "(AUC 0.514 (0.503–0.525), chance 0.5, by loss on the classifier's outputs, the highest "
        "of 4 attacks)."
    )
    assert card["summary"].endswith(f"M{told}") and f"training set: m{told}" in sentences(card)
    # One attack of many is enough, whichever is called the strongest.
    low = {"auc": 0.505, "auc_ci95": [0.494, 0.516]}
    for target in ("business", "features", "release"):
        for figures in audit["membership"][target].values():
            figures.update(low)
    audit["membership"]["strongest"].update(low)
    assert "succeeds better" not in str(privacy_card(results, audit))
    audit["membership"]["features"]["logistic"].update(auc=0.56, auc_ci95=[0.55, 0.57])
    assert "by logistic on the features, the highest" in privacy_card(results, audit)["summary"]
    # Few rows do not show that the two are alike by themselves; of two that differ nothing counts.
    audit["membership"]["data"]["same_distribution"]["state"] = "not_shown"
    assert "too few rows to rule out" in privacy_card(results, audit)["summary"]
    audit["membership"]["verdict"] = "invalid"
    assert "succeeds better" not in privacy_card(results, audit)["summary"]
    assert "succeeds better" not in str(privacy_card(results))


GUESSED = {
    "auc_ci95": [0.494, 0.516],
    "tpr_at_fpr": {
        "0.01": {"value": 0.011, "ci95": [0.008, 0.015]},
        "0.05": {"value": 0.051, "ci95": [0.045, 0.058]},
    },
}
SURE = {"0.01": {"value": 0.02, "ci95": [0.012, 0.03]}, "0.001": {"value": None, "ci95": None}}


@pytest.mark.parametrize(
    ("figures", "state", "words"),
    [
        (
            GUESSED,
            "alike",
            "a low figure is no evidence of privacy, because the power of the attacks is",
        ),
        (GUESSED | {"auc_ci95": [0.501, 0.52]}, "alike", "this leakage is real, and stronger"),
        # Few are found, but these for sure.
        (GUESSED | {"tpr_at_fpr": SURE}, "alike", "this leakage is real, and stronger"),
        (GUESSED | {"tpr_at_fpr": SURE}, "not_shown", "training need not be the cause"),
    ],
)
def test_unshown_power_qualifies_low_figures_only(results, figures, state, words):
    audit = make_audit(results)
    audit["membership"] |= {"verdict": "no_power", "verdict_reason": "why"}
    for found in (audit["membership"]["strongest"], *attack_figures(audit)):
        found |= figures
    audit["membership"]["data"]["same_distribution"]["state"] = state
    (found,) = [
        text
        for what, text in attacked(privacy_card(results, audit)).items()
        if what.startswith("membership inference")
    ]
    assert words in found and (("low figure" in found) is ("low figure" in words))
    assert words in " ".join(audit_text(audit | {"attributes": None}).split())


def test_membership_verdict_of_an_audit_without_one_is_derived():
    audit = make_audit()
    assert membership_verdict(audit) == "ok"
    power = audit["membership"]["power"]
    # The other run was not read either, or its own members differ: nothing is shown by it.
    found = power["tpr_at_fpr"] | {"0.05": {"value": 0.052, "ci95": [0.045, 0.059]}}
    audit["membership"]["power"] = power | {"tpr_at_fpr": found}
    assert membership_verdict(audit) == "no_power"
    alike = {"auc": 0.7, "ci95": [0.6, 0.8], "ok": False}
    audit["membership"]["power"] = power | {"data": {"same_distribution": alike}}
    assert membership_verdict(audit) == "no_power"
    audit["membership"]["data"]["same_distribution"] = alike
    assert membership_verdict(audit) == "invalid"
    audit["membership"]["verdict"] = "ok"
    assert membership_verdict(audit) == "ok"
