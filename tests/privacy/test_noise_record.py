"""Stored epsilons whose noise is not that of this version are withdrawn."""

import copy

import pytest

from tests.reporting.private_runs import plain_dp, private_dp
from tests.reporting.report.runs import kept_results
from tf_mtl_privacy.evaluation.dp_audit.run import claim_of
from tf_mtl_privacy.evaluation.membership.claims import claimed
from tf_mtl_privacy.privacy.noise_record import NOISE, checked_audit, checked_card, checked_dp

LINE = (
    "was stated with noise cut at 5.65 standard deviations; it does not hold: "
    "docs/accounting.md#results-with-noise-that-was-cut, train again"
)


def figures(value, path=""):
    """Returns every epsilon within a `dp` section, by its path."""
    result = {}
    for name, item in value.items():
        if isinstance(item, dict):
            result |= figures(item, f"{path}{name}.")
        elif name.startswith(("epsilon_", "library_")) or path in ("released.", "conditional."):
            result[path + name] = item
    return result


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("synthetic_dp_all", "epsilon 1.9991"),
        ("photographs_dp_all", "epsilon 1.9983 (of a person 24.509)"),
        ("demo_cut_noise", "conditional epsilon 0.4996"),
        ("photographs", "conditional epsilon 10.443"),
    ],
)
def test_stored_results_without_the_record_are_void(name, words):
    stored = kept_results(name, noise=None)["dp"]
    before = copy.deepcopy(stored)
    result = checked_dp(stored)
    assert stored == before and len(figures(stored)) > 8
    assert (
        set(figures(result).values()) == {None} and figures(result).keys() == figures(before).keys()
    )
    assert result["void"] is True and result["void_reason"] == f"{words} {LINE}"
    assert result["reason"] == f"void: {words} {LINE}"
    assert checked_dp(result) == result
    # Other figures stay.
    assert result["steps"] == before["steps"] and result["budgets"] == before["budgets"]
    claim = claim_of(result)
    assert claim.epsilon is None and LINE in claim.reason
    assert claimed("business", result) is None


@pytest.mark.parametrize("scope", ["discriminator", "all"])
def test_section_of_this_version_is_unchanged(scope):
    dp = private_dp(scope)
    assert dp["noise"] == NOISE and checked_dp(dp) == dp and not dp["void"]


def test_section_without_an_epsilon_is_unchanged():
    for dp in (plain_dp(), private_dp(void="a fixed key") | {"noise": None}, {"reason": "x"}):
        assert checked_dp(dp) == dp


def test_section_with_unknown_noise_is_void_but_not_called_cut():
    result = checked_dp(private_dp("all") | {"noise": "discrete_gaussian"})
    assert "noise that this version does not know ('discrete_gaussian')" in result["void_reason"]
    assert "cut at" not in result["void_reason"]


def test_audit_of_a_void_claim_is_withdrawn():
    old = {"claimed": 2.0, "verdict": "holds", "text": "Not contradicted: ...", "epsilon_lower": 1}
    result = checked_audit({"dp_audit": old, "seed": 1})
    assert result["dp_audit"]["verdict"] == "no_claim" and result["dp_audit"]["claimed"] is None
    assert result["dp_audit"]["text"] == f"No claim to test: epsilon 2 {LINE}."
    for kept in (
        old | {"noise": NOISE},
        old | {"verdict": "contradicted"},
        old | {"claimed": None},
    ):
        assert checked_audit({"dp_audit": kept}) == {"dp_audit": kept}
    assert checked_audit({"dp_audit": None}) == {"dp_audit": None}


def test_card_of_a_void_claim_is_withdrawn():
    card = {
        "released": {"encoder": 1.9991, "restorer": None},
        "conditional": None,
        "claims": ["encoder, as released: epsilon 2"],
        "not_protected": ["the rest"],
        "summary": "Epsilon is 2.",
    }
    result = checked_card(card)
    assert result["released"] == {"encoder": None, "restorer": None} and LINE in result["summary"]
    assert result["claims"] == [f"VOID, no privacy guarantee holds: epsilon 1.9991 {LINE}"]
    assert result["summary"].startswith("No privacy guarantee holds: epsilon 1.9991")
    assert checked_card(card | {"noise": NOISE}) == card | {"noise": NOISE}
    assert checked_card({}) == {}
