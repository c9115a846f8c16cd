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
    """Every figure of an epsilon within a `dp` section, by its path."""
    found = {}
    for name, item in value.items():
        if isinstance(item, dict):
            found |= figures(item, f"{path}{name}.")
        elif name.startswith(("epsilon_", "library_")) or path in ("released.", "conditional."):
            found[path + name] = item
    return found


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("synthetic_dp_all", "epsilon 1.9991"),
        ("photographs_dp_all", "epsilon 1.9983 (of a person 24.509)"),
        ("demo_cut_noise", "conditional epsilon 0.4996"),
        ("photographs", "conditional epsilon 10.443"),
    ],
)
def test_kept_results_without_the_record_are_void(name, words):
    stored = kept_results(name, noise=None)["dp"]
    before = copy.deepcopy(stored)
    found = checked_dp(stored)
    assert stored == before and len(figures(stored)) > 8
    assert (
        set(figures(found).values()) == {None} and figures(found).keys() == figures(before).keys()
    )
    assert found["void"] is True and found["void_reason"] == f"{words} {LINE}"
    assert found["reason"] == f"void: {words} {LINE}"
    assert checked_dp(found) == found
    # What is no epsilon stays.
    assert found["steps"] == before["steps"] and found["budgets"] == before["budgets"]
    claim = claim_of(found)
    assert claim.epsilon is None and LINE in claim.reason
    assert claimed("business", found) is None


@pytest.mark.parametrize("scope", ["discriminator", "all"])
def test_sections_of_this_version_hold(scope):
    dp = private_dp(scope)
    assert dp["noise"] == NOISE and checked_dp(dp) == dp and not dp["void"]


def test_sections_without_an_epsilon_stay_as_they_are():
    for dp in (plain_dp(), private_dp(void="a fixed key") | {"noise": None}, {"reason": "x"}):
        assert checked_dp(dp) == dp


def test_noise_of_a_later_version_is_not_called_cut():
    found = checked_dp(private_dp("all") | {"noise": "discrete_gaussian"})
    assert "noise that this version does not know ('discrete_gaussian')" in found["void_reason"]
    assert "cut at" not in found["void_reason"]


def test_an_audit_s_test_of_such_a_claim_is_no_test():
    old = {"claimed": 2.0, "verdict": "holds", "text": "Not contradicted: ...", "epsilon_lower": 1}
    found = checked_audit({"dp_audit": old, "seed": 1})
    assert found["dp_audit"]["verdict"] == "no_claim" and found["dp_audit"]["claimed"] is None
    assert found["dp_audit"]["text"] == f"No claim to test: epsilon 2 {LINE}."
    for kept in (
        old | {"noise": NOISE},
        old | {"verdict": "contradicted"},
        old | {"claimed": None},
    ):
        assert checked_audit({"dp_audit": kept}) == {"dp_audit": kept}
    assert checked_audit({"dp_audit": None}) == {"dp_audit": None}


def test_an_exported_card_is_withdrawn():
    card = {
        "released": {"encoder": 1.9991, "restorer": None},
        "conditional": None,
        "claims": ["encoder, as released: epsilon 2"],
        "not_protected": ["the rest"],
        "summary": "Epsilon is 2.",
    }
    found = checked_card(card)
    assert found["released"] == {"encoder": None, "restorer": None} and LINE in found["summary"]
    assert found["claims"] == [f"VOID, nothing is protected: epsilon 1.9991 {LINE}"]
    assert found["summary"].startswith("No privacy at all: epsilon 1.9991")
    assert checked_card(card | {"noise": NOISE}) == card | {"noise": NOISE}
    assert checked_card({}) == {}
