"""Writes what an audit found in words, the finding that gives most away first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tf_mtl_privacy.evaluation.membership.verdict import INVALID
from tf_mtl_privacy.reporting.formats import MISSING, decibel, interval, percent
from tf_mtl_privacy.reporting.membership_words import (
    attack_name,
    auc_text,
    caught,
    membership_verdict,
    unshown,
    worst_attack,
)

# From this PSNR on a restored picture counts as given back: the paper's gate of its restorer.
_GIVEN_BACK_DB = 30.0
# So does one that is found again as often as the original itself would be, nearly.
_GIVEN_BACK_SHARE = 0.9


class Finding(NamedTuple):
    """One finding.

    Attributes:
        what: was attacked.
        text: came of it.
        severity: how much it gives away, from 0 (no more than chance) to 1 (all of it), by the
            upper end of its interval; findings about another run or about a claim have -1.
        label: a word or two, for a table.
    """

    what: str
    text: str
    severity: float
    label: str


# Whose pictures an attacker of features learned from (`inversion.attacker_people`).
_ATTACKER = {
    "other": "features of other people",
    "same": "features of other pictures of the same people",
    "unknown": "features of other pictures, of whom is not known",
}
# What is counted (`inversion.retrieval`); audits before there were two kinds do not say.
_NEAREST = {
    "same_person": "the nearest other picture shows the same person",
    "own_picture": "the nearest of all pictures is its own original",
    "unknown": "the nearest picture is the right one, its original or one of the same person,",
}


def beyond_chance(upper: float, chance: float) -> float:
    """Returns (upper - chance) / (1 - chance), at least 0: 0 is chance, 1 is everything."""
    return max(0.0, (upper - chance) / (1 - chance)) if chance < 1 else 0.0


def audit_findings(audit: Mapping[str, Any]) -> list[Finding]:
    """Lists what membership inference, inversion and the test of the claimed epsilon found.

    Args:
        audit: the content of audit.json. What it has not done is left out, see `audit_gaps`.

    Returns:
        The findings, the highest severity first.
    """
    found = [part(audit) for part in (inversion, membership, power, claimed_epsilon)]
    return sorted(filter(None, found), key=lambda finding: -finding.severity)


def audit_gaps(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Lists (what, why) of all that an audit did not do."""
    return [(part["what"], part["why"]) for part in audit.get("not_done") or ()]


def membership(audit: Mapping[str, Any]) -> Finding | None:
    """Describes the membership attack that ends highest; None where no figure is of membership.

    The attack that was chosen on the other half of the rows follows, where it is another one: its
    figures are not the highest of many.
    """
    worst = worst_attack(audit)
    if not worst:
        return None
    figures, chosen = worst.figures, (audit.get("membership") or {}).get("strongest")
    same = chosen and attack_name(chosen) == attack_name(figures)
    which = "the one that the other half chose" if same else "the highest"
    parts = [_found(figures)]
    if attack_name(worst.auc) != attack_name(figures):
        parts.append(f"the highest AUC is {auc_text(worst.auc)}, by {attack_name(worst.auc)}")
    if chosen and not same:
        parts.append(
            f"the attack that the other half chose, {attack_name(chosen)}: {_found(chosen)}"
        )
    what = (
        f"membership of a picture in the training set (by {attack_name(figures)}, {which} of "
        f"{worst.num_attacks} attacks)"
    )
    text = "; ".join(filter(None, [*parts, unshown(audit)]))
    return Finding(what, text, worst.severity, "Membership")


def power(audit: Mapping[str, Any]) -> Finding | None:
    """Describes the strongest attack on the run that is to show the attacks' power."""
    found = (audit.get("membership") or {}).get("power")
    if not found or membership_verdict(audit) == INVALID:
        return None
    return Finding(
        f"{power_name(found)} ({attack_name(found)})", _found(found), -1.0, "Power of attacks"
    )


def _found(figures: Mapping[str, Any]) -> str:
    rates = "".join(
        f"; finds {tpr} ({ends}) of the training pictures at {fpr} false positives"
        for fpr, tpr, ends in caught(figures)
    )
    return f"AUC {auc_text(figures)}, chance 0.5{rates}"


def power_name(figures: Mapping[str, Any]) -> str:
    """The run that is attacked to show that attacks can find something."""
    return f"to show the attacks' power, the run {figures['run_dir']}"


def inversion(audit: Mapping[str, Any]) -> Finding | None:
    """Describes how well the picture comes back from its features."""
    found = audit.get("inversion")
    if not found:
        return None
    mean, people = found["mean_image"], found.get("attacker_people") or "unknown"
    back = "THE FEATURES GIVE THE PICTURE BACK: " if _is_given_back(found) else ""
    upper = (found.get("retrieval_rank1_ci95") or [0.0, found["retrieval_rank1"]])[1]
    return Finding(
        f"the picture itself, by a decoder that an attacker trains on {_ATTACKER[people]}",
        f"{back}PSNR {decibel(found['psnr_db'])}, SSIM {found['ssim']:.3f} (the mean image: "
        f"{decibel(mean['psnr_db'])}, {mean['ssim']:.3f}); {_retrieval(found)}",
        1.0 if back else beyond_chance(upper, found["chance"]),
        "Inversion",
    )


def gives_back(audit: Mapping[str, Any]) -> str:
    """Writes a clause where an attacker gets the picture back from its features; else empty."""
    found = audit.get("inversion")
    if not found or not _is_given_back(found):
        return ""
    return (
        "the features give the picture back: a decoder that an attacker trains reaches a PSNR of "
        f"{decibel(found['psnr_db'])} (the mean image: {decibel(found['mean_image']['psnr_db'])}), "
        f"and {percent(found['retrieval_rank1'])} of its pictures are recognised"
    )


def _is_given_back(found: Mapping[str, Any]) -> bool:
    upper = (found.get("retrieval_rank1_ci95") or [0.0, found["retrieval_rank1"]])[1]
    most = found.get("retrieval_of_originals") or 1.0
    return bool(found["psnr_db"] >= _GIVEN_BACK_DB or upper >= _GIVEN_BACK_SHARE * most)


def _retrieval(found: Mapping[str, Any]) -> str:
    """Writes how often a restored picture is recognised, beside the pictures themselves."""
    asked = found.get("retrieval_queries") or found["images"]
    best = found.get("retrieval_of_originals")
    ceiling = (
        f"the originals in their place: {percent(best)}, the most that this measure can find"
        if best is not None
        else "what the originals would give is not known, so a low figure says nothing"
    )
    return (
        f"{_NEAREST[found.get('retrieval') or 'unknown']} for "
        f"{percent(found['retrieval_rank1'])} ({interval(found['retrieval_rank1_ci95'])}) of "
        f"{asked:,} restored pictures, by chance for {percent(found['chance'], 2)} ({ceiling})"
    )


def claimed_epsilon(audit: Mapping[str, Any]) -> Finding | None:
    """Describes the test of the claimed epsilon."""
    found = audit.get("dp_audit")
    if not found:
        return None
    return Finding("the claimed epsilon, by canaries", found["text"] or MISSING, -1.0, "Epsilon")
