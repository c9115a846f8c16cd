"""What an audit found, in words: (what was attacked, what came of it)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.evaluation.membership.verdict import INVALID
from tf_mtl_privacy.reporting.formats import MISSING, decibel, interval, percent
from tf_mtl_privacy.reporting.membership_words import (
    attack_name,
    auc_text,
    caught,
    membership_verdict,
    unshown,
)

Finding = tuple[str, str]
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


def audit_findings(audit: Mapping[str, Any]) -> list[Finding]:
    """(what, finding) of membership inference, inversion and the test of the claimed epsilon.

    Args:
        audit: the content of audit.json. What it has not done is left out, see `audit_gaps`.
    """
    found = (part(audit) for part in (strongest, power, inversion, claimed_epsilon))
    return [finding for finding in found if finding]


def audit_gaps(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, why) of all that an audit did not do."""
    return [(part["what"], part["why"]) for part in audit.get("not_done") or ()]


def strongest(audit: Mapping[str, Any]) -> Finding | None:
    """The strongest membership attack; None where its figures are not of membership."""
    best = (audit.get("membership") or {}).get("strongest")
    if not best or membership_verdict(audit) == INVALID:
        return None
    what = f"whether a picture was trained on (strongest attack: {attack_name(best)})"
    return what, "; ".join(filter(None, [_found(best), unshown(audit)]))


def power(audit: Mapping[str, Any]) -> Finding | None:
    """The strongest attack on the run that is to show the attacks' power."""
    found = (audit.get("membership") or {}).get("power")
    if not found or membership_verdict(audit) == INVALID:
        return None
    return f"{power_name(found)} ({attack_name(found)})", _found(found)


def _found(figures: Mapping[str, Any]) -> str:
    rates = "".join(
        f"; finds {tpr} ({ends}) of the training pictures at {fpr} false alarms"
        for fpr, tpr, ends in caught(figures)
    )
    return f"AUC {auc_text(figures)}, a guess 0.5{rates}"


def power_name(figures: Mapping[str, Any]) -> str:
    """The run that is attacked to show that attacks can find something."""
    return f"to show the attacks' power, the run {figures['run_dir']}"


def inversion(audit: Mapping[str, Any]) -> Finding | None:
    """How well the picture comes back from its features."""
    found = audit.get("inversion")
    if not found:
        return None
    mean, people = found["mean_image"], found.get("attacker_people") or "unknown"
    return (
        f"the picture itself, by a decoder that an attacker trains on {_ATTACKER[people]}",
        f"PSNR {decibel(found['psnr_db'])}, SSIM {found['ssim']:.3f} (the mean image: "
        f"{decibel(mean['psnr_db'])}, {mean['ssim']:.3f}); {_retrieval(found)}",
    )


def _retrieval(found: Mapping[str, Any]) -> str:
    """Whom or what a restored picture leads to, beside what the pictures themselves lead to."""
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
        f"{asked:,} restored pictures, by a guess for {percent(found['chance'], 2)} ({ceiling})"
    )


def claimed_epsilon(audit: Mapping[str, Any]) -> Finding | None:
    """The test of the claimed epsilon."""
    found = audit.get("dp_audit")
    return ("the claimed epsilon, by canaries", found["text"] or MISSING) if found else None
