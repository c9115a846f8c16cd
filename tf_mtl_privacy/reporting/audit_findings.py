"""What an audit found, in words: (what was attacked, what came of it)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.evaluation.membership.verdict import INVALID, NO_POWER, OK, shows_power
from tf_mtl_privacy.reporting.formats import MISSING, decibel, interval, percent

Finding = tuple[str, str]
_UNSHOWN = "; a low figure is no evidence, as the attacks' power is not shown"
# Whose pictures an attacker of features learned from (`inversion.attacker_people`).
_ATTACKER = {
    "other": "features of other people",
    "same": "features of other pictures of the same people",
    "unknown": "features of other pictures, of whom is not known",
}
TARGETS = {
    "business": "the classifier's answers",
    "features": "the features",
    "release": "all that is released",
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


def membership_verdict(audit: Mapping[str, Any]) -> str:
    """What the figures of membership inference are worth.

    Args:
        audit: the content of audit.json. Where it has no verdict of its own, that follows from its
            check of members against others and from the attacked run that was to show the power.

    Returns:
        "ok"; "no_power" where nothing shows that the attacks could have found more; "invalid" where
        members and others differ without any model, so that the figures are not of membership.
    """
    membership = audit.get("membership") or {}
    given = membership.get("verdict")
    if given:
        return str(given)
    check = (membership.get("data") or {}).get("same_distribution")
    if check and not check["ok"]:
        return INVALID
    other = membership.get("power")
    return OK if other and shows_power(other) else NO_POWER


def membership_gap(audit: Mapping[str, Any], command: str) -> Finding | None:
    """(what, why) of what an audit's membership figures leave open; None where they count.

    Args:
        audit: the content of audit.json.
        command: that audits the run.
    """
    membership = audit.get("membership") or {}
    verdict, other = membership_verdict(audit), membership.get("power")
    if not membership or verdict == OK:
        return None
    if verdict == INVALID:
        return "whether a picture was trained on", same_people_note(audit).rstrip(".")
    reason = membership.get("verdict_reason")
    if not reason and other:
        reason = f"nothing was found in {other['run_dir']} either"
    # A run beside it helps only where there was none.
    hint = "" if other else f"{command} --power_run=OVERFITTED_RUN_DIR"
    return "power of membership attacks", "; ".join(filter(None, [_said(reason), hint]))


def same_people_note(audit: Mapping[str, Any]) -> str:
    """A sentence where members can be told from others without any model; else empty."""
    if membership_verdict(audit) != INVALID:
        return ""
    check = (audit["membership"].get("data") or {}).get("same_distribution")
    told = f" (AUC {auc_text(check)})" if check else ""
    return (
        f"Members and others differ without any model{told}, so figures of membership inference "
        "say nothing here."
    )


def auc_text(figures: Mapping[str, Any], name: str = "auc") -> str:
    """An area under a curve with its interval: `0.512 (0.498–0.526)`."""
    ends = figures.get(f"{name}_ci95") or figures.get("ci95")
    shown = f"{figures[name]:.3f}"
    return f"{shown} ({ends[0]:.3f}–{ends[1]:.3f})" if ends else shown


def caught(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(false positive rate, true positive rate, its interval) of each rate that was measured."""
    for rate, found in sorted(figures["tpr_at_fpr"].items(), key=lambda pair: float(pair[0])):
        if found["value"] is not None:
            shown = percent(float(rate), 1).replace(".0 ", " ")
            yield shown, percent(found["value"]), interval(found["ci95"])


def attack_name(strongest: Mapping[str, Any]) -> str:
    """The attack and what it was made on, in words."""
    target = TARGETS.get(strongest["target"], strongest["target"])
    return f"{strongest['attack'].replace('_', ' ')} on {target}"


def _said(reason: str | None) -> str:
    return f"not shown: {reason}" if reason else "not shown"


def strongest(audit: Mapping[str, Any]) -> Finding | None:
    """The strongest membership attack; None where its figures are not of membership."""
    best, verdict = (audit.get("membership") or {}).get("strongest"), membership_verdict(audit)
    if not best or verdict == INVALID:
        return None
    what = f"whether a picture was trained on (strongest attack: {attack_name(best)})"
    return what, _found(best) + (_UNSHOWN if verdict == NO_POWER else "")


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
        f"{decibel(mean['psnr_db'])}, {mean['ssim']:.3f}); the right one is found by it in "
        f"{percent(found['retrieval_rank1'])} ({interval(found['retrieval_rank1_ci95'])}) of "
        f"{found['images']:,} pictures, by a guess in {percent(found['chance'], 2)}",
    )


def claimed_epsilon(audit: Mapping[str, Any]) -> Finding | None:
    """The test of the claimed epsilon."""
    found = audit.get("dp_audit")
    return ("the claimed epsilon, by canaries", found["text"] or MISSING) if found else None
