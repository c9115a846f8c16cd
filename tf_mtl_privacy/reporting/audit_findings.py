"""Findings of an audit in words, the most revealing first, and the weight of its membership part.

Severity runs from 0 (chance) to 1 (everything is revealed), by the upper confidence bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tf_mtl_privacy.evaluation.membership.verdict import (
    INVALID,
    NO_POWER,
    NOT_SHOWN,
    OK,
    shows_power,
)
from tf_mtl_privacy.evaluation.schema import Audit
from tf_mtl_privacy.reporting.formats import MISSING, decibel, interval, percent, reworded

TARGETS = {
    "business": "the classifier's outputs",
    "features": "the features",
    "release": "everything released",
}
# The false positive rate at which attacks are compared, as a key of audit.json.
FALSE_POSITIVES = "0.05"
# From this PSNR on an image counts as recovered: the paper's gate of its restorer.
_RECOVERED_DB = 30.0
# Also one whose retrieval rate is almost that of the original.
_RECOVERED_SHARE = 0.9
# Training data of the inversion attacker (`inversion.attacker_people`).
_ATTACKER = {
    "other": "features of other people",
    "same": "features of other images of the same people",
    "unknown": "features of other images (people unknown)",
}
# Definition of a match (`inversion.retrieval`), which older audits lack.
_NEAREST = {
    "same_person": "the nearest other image shows the same person",
    "own_picture": "the nearest of all images is the original",
    "unknown": "the nearest image is the original or shows the same person",
}


class Finding(NamedTuple):
    """One finding.

    Attributes:
        what: the attack.
        text: its result.
        severity: from 0 (chance) to 1 (everything revealed), by the upper confidence bound; -1
            for findings about another run or about a claim.
        label: a word or two, for a table.
    """

    what: str
    text: str
    severity: float
    label: str


def beyond_chance(upper: float, chance: float) -> float:
    """Returns (upper - chance) / (1 - chance), at least 0: 0 is chance, 1 is everything."""
    return max(0.0, (upper - chance) / (1 - chance)) if chance < 1 else 0.0


def audit_findings(audit: Audit) -> list[Finding]:
    """Lists the findings of membership inference, inversion and the test of the claimed epsilon.

    Args:
        audit: content of audit.json. Parts that were not run are left out, see `audit_gaps`.

    Returns:
        The findings, the highest severity first.
    """
    found = [part(audit) for part in (inversion, membership, power, claimed_epsilon)]
    return sorted(filter(None, found), key=lambda finding: -finding.severity)


def audit_gaps(audit: Audit) -> list[tuple[str, str]]:
    """Lists (part, reason) of everything an audit did not do."""
    return [(part["what"], reworded(part["why"])) for part in audit.get("not_done") or ()]


def membership(audit: Audit) -> Finding | None:
    """Describes the membership attack with the highest upper bound; None if no figure is valid.

    If the attack chosen on the other half of the rows is a different one, it follows: its figures
    are not the maximum of many.
    """
    worst = worst_attack(audit)
    if not worst:
        return None
    figures, chosen = worst.figures, (audit.get("membership") or {}).get("strongest")
    same = chosen and attack_name(chosen) == attack_name(figures)
    which = "also chosen on the other half, the strongest" if same else "the strongest"
    parts = [_attack_figures(figures)]
    if attack_name(worst.auc) != attack_name(figures):
        parts.append(f"highest AUC {auc_text(worst.auc)}, by {attack_name(worst.auc)}")
    if chosen and not same:
        parts.append(
            f"attack chosen on the other half, {attack_name(chosen)}: {_attack_figures(chosen)}"
        )
    what = f"membership inference ({attack_name(figures)}, {which} of {worst.num_attacks} attacks)"
    text = "; ".join(filter(None, [*parts, unshown(audit)]))
    return Finding(what, text, worst.severity, "Membership")


def power(audit: Audit) -> Finding | None:
    """Describes the strongest attack on the overfitted reference run."""
    found = (audit.get("membership") or {}).get("power")
    if not found or membership_verdict(audit) == INVALID:
        return None
    what = f"{power_name(found)} ({attack_name(found)})"
    return Finding(what, _attack_figures(found), -1.0, "Attack power")


def _attack_figures(figures: Mapping[str, Any]) -> str:
    rates = "".join(
        f"; {tpr} ({ends}) of training images detected at {fpr} false positives"
        for fpr, tpr, ends in caught(figures)
    )
    return f"AUC {auc_text(figures)}, chance 0.5{rates}"


def power_name(figures: Mapping[str, Any]) -> str:
    """Names the reference run, on which attacks with power succeed."""
    return f"power check on the overfitted reference run {figures['run_dir']}"


def inversion(audit: Audit) -> Finding | None:
    """Describes how well an attacker recovers images from their features."""
    found = audit.get("inversion")
    if not found:
        return None
    mean, people = found["mean_image"], found.get("attacker_people") or "unknown"
    recovered = "IMAGES CAN BE RECOVERED FROM THE FEATURES: " if _is_recovered(found) else ""
    upper = (found.get("retrieval_rank1_ci95") or [0.0, found["retrieval_rank1"]])[1]
    return Finding(
        f"image inversion (decoder trained on {_ATTACKER[people]})",
        f"{recovered}PSNR {decibel(found['psnr_db'])}, SSIM {found['ssim']:.3f} (mean image: "
        f"{decibel(mean['psnr_db'])}, {mean['ssim']:.3f}); {_retrieval(found)}",
        1.0 if recovered else beyond_chance(upper, found["chance"]),
        "Inversion",
    )


def recovery(audit: Audit) -> str:
    """Returns a clause if the attacker recovers images from their features; else empty."""
    found = audit.get("inversion")
    if not found or not _is_recovered(found):
        return ""
    return (
        "images can be recovered from their features: an attacker's decoder reaches a PSNR of "
        f"{decibel(found['psnr_db'])} (mean image: {decibel(found['mean_image']['psnr_db'])}), "
        f"and {percent(found['retrieval_rank1'])} of its images are recognised"
    )


def _is_recovered(found: Mapping[str, Any]) -> bool:
    upper = (found.get("retrieval_rank1_ci95") or [0.0, found["retrieval_rank1"]])[1]
    ceiling = found.get("retrieval_of_originals") or 1.0
    return bool(found["psnr_db"] >= _RECOVERED_DB or upper >= _RECOVERED_SHARE * ceiling)


def _retrieval(found: Mapping[str, Any]) -> str:
    """Recognition rate of restored images, with the ceiling that the originals reach."""
    asked = found.get("retrieval_queries") or found["images"]
    best = found.get("retrieval_of_originals")
    ceiling = (
        f"the originals themselves reach {percent(best)}, the ceiling of this measure"
        if best is not None
        else "the rate of the originals, its ceiling, is unknown, so a low figure proves nothing"
    )
    return (
        f"{_NEAREST[found.get('retrieval') or 'unknown']} for "
        f"{percent(found['retrieval_rank1'])} ({interval(found['retrieval_rank1_ci95'])}) of "
        f"{asked:,} restored images; chance {percent(found['chance'], 2)} ({ceiling})"
    )


def claimed_epsilon(audit: Audit) -> Finding | None:
    """Describes the test of the claimed epsilon."""
    found = audit.get("dp_audit")
    if not found:
        return None
    text = reworded(found["text"]) if found["text"] else MISSING
    return Finding("claimed epsilon (canary test)", text, -1.0, "Epsilon")


def membership_verdict(audit: Audit) -> str:
    """Returns the verdict on the membership inference figures.

    Args:
        audit: content of audit.json. Without a verdict of its own, it follows from the check of
            members against non-members and from the overfitted reference run.

    Returns:
        "ok"; "no_power": nothing shows that the attacks could have found more; "invalid": members
        and non-members differ without any model, so the figures do not measure membership.
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


def membership_gap(audit: Audit, command: str) -> tuple[str, str] | None:
    """(question, reason) left open by the membership figures; None if they are conclusive.

    Args:
        audit: content of audit.json.
        command: that audits the run.
    """
    membership = audit.get("membership") or {}
    verdict, other = membership_verdict(audit), membership.get("power")
    if not membership or verdict == OK:
        return None
    if verdict == INVALID:
        return "membership in the training set", sample_difference_note(audit).rstrip(".")
    reason = reworded(membership.get("verdict_reason") or "")
    if not reason and other:
        reason = f"the attacks also detected too little in {other['run_dir']}"
    # Another reference run helps only if there was none.
    hint = "" if other else f"{command} --overfit_reference_run=OVERFITTED_RUN_DIR"
    told = f"not shown: {reason}" if reason else "not shown"
    return "power of the membership attacks", "; ".join(filter(None, [told, hint]))


def sample_difference_note(audit: Audit) -> str:
    """Returns a sentence if members differ from non-members without any model; else empty."""
    if membership_verdict(audit) != INVALID:
        return ""
    check = (audit["membership"].get("data") or {}).get("same_distribution")
    auc = f" (AUC {auc_text(check)})" if check else ""
    return (
        f"Members and non-members differ without any model{auc}, so the membership inference "
        "figures are not valid."
    )


def is_evidence(figures: Mapping[str, Any]) -> bool:
    """Tells if an attack beats chance, on average (AUC) or at a low false positive rate."""
    ends = figures.get("auc_ci95")
    rates = (figures.get("tpr_at_fpr") or {}).items()
    return bool(ends and ends[0] > 0.5) or any(
        found["ci95"] is not None and found["ci95"][0] > float(rate) for rate, found in rates
    )


def unshown(audit: Audit) -> str:
    """Returns a clause on the missing power check of the strongest attack; else empty.

    Only a low figure needs a power check; a successful attack is evidence by itself.
    """
    worst = worst_attack(audit)
    if not worst or membership_verdict(audit) != NO_POWER:
        return ""
    if not is_evidence(worst.figures):
        return (
            "a low figure is no evidence of privacy, because the power of the attacks is not shown"
        )
    if _same_distribution_state(audit) == NOT_SHOWN:
        return (
            "training need not be the cause, because there are too few rows to rule out other "
            "differences"
        )
    return "this leakage is real, and stronger attacks may find more (power not shown)"


def above_chance_note(audit: Audit) -> str:
    """Returns a clause if an attack separates members from non-members better than chance.

    This is so if the 95 % interval of its AUC lies above 0.5. Of several attacks, the one with the
    highest lower bound is named. Empty otherwise, or if the figures are not valid.
    """
    found = list(attacks(audit.get("membership") or {}))
    above = [
        (figures["auc_ci95"][0], target, attack, figures)
        for target, attack, figures in found
        if figures.get("auc_ci95") and figures["auc_ci95"][0] > 0.5
    ]
    if not above or membership_verdict(audit) == INVALID:
        return ""
    _, target, attack, figures = max(above, key=lambda part: part[0])
    named = attack_name({"target": target, "attack": attack})
    few = (
        "; there are too few rows to rule out other differences"
        if _same_distribution_state(audit) == NOT_SHOWN
        else ""
    )
    return (
        "membership inference succeeds better than chance on average "
        f"(AUC {auc_text(figures)}, chance 0.5, by {named}, the highest of {len(found)} "
        f"attacks{few})"
    )


def attacks(membership: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields (target, attack, figures) of each attack, in the order of `TARGETS`."""
    for target in TARGETS:
        for attack, figures in (membership.get(target) or {}).items():
            if isinstance(figures, Mapping) and figures.get("auc") is not None:
                yield target, attack, figures


class WorstAttack(NamedTuple):
    """The membership attack that detects most.

    Attributes:
        figures: with `target` and `attack`: the largest upper bound of the true positive rate at
            5 % false positives, or of the AUC without such a rate.
        auc: the same for the attack with the highest upper bound of the AUC; often another one.
        num_attacks: number of attacks.
        severity: the largest `membership_excess` of any attack.
    """

    figures: dict[str, Any]
    auc: dict[str, Any]
    num_attacks: int
    severity: float


def worst_attack(audit: Audit) -> WorstAttack | None:
    """Finds the worst membership attack; None if no figure is valid."""
    membership = audit.get("membership") or {}
    # The chosen attack comes first, so that it wins ties.
    found = [dict(best)] if (best := membership.get("strongest")) else []
    found += [
        {"target": target, "attack": attack, **figures}
        for target, attack, figures in attacks(membership)
    ]
    if not found or membership_verdict(audit) == INVALID:
        return None
    return WorstAttack(
        max(found, key=membership_order),
        max(found, key=_auc_end),
        len({(figures["target"], figures["attack"]) for figures in found}),
        max(map(membership_excess, found)),
    )


def membership_order(figures: Mapping[str, Any]) -> tuple[float, float]:
    """Sort key of attacks: upper bounds of the true positive rate at 5 % FPR and of the AUC."""
    rate = (figures.get("tpr_at_fpr") or {}).get(FALSE_POSITIVES) or {}
    high = rate["ci95"][1] if rate.get("ci95") else rate.get("value")
    return (-1.0 if high is None else float(high)), _auc_end(figures)


def _auc_end(figures: Mapping[str, Any]) -> float:
    return float((figures.get("auc_ci95") or [figures["auc"], figures["auc"]])[1])


def membership_excess(figures: Mapping[str, Any]) -> float:
    """Returns how far above chance an attack's figures end, in [0, 1].

    The larger of the Gini coefficient 2 AUC - 1 and, at 5 % false positives, the true positive rate
    beyond 5 % as a share of 95 %; both by the upper 95 % confidence bound.
    """
    high, area = membership_order(figures)
    chance = float(FALSE_POSITIVES)
    return max(0.0, 2 * area - 1, (high - chance) / (1 - chance))


def highest_rate(audit: Audit) -> tuple[float, float] | None:
    """Returns the largest true positive rate at 5 % false positives, and the largest upper bound.

    Both over all attacks of the audit; None if no attack has such a rate.
    """
    membership = audit.get("membership") or {}
    found = [figures for *_, figures in attacks(membership)]
    found += [membership["strongest"]] if membership.get("strongest") else []
    rates = [(figures.get("tpr_at_fpr") or {}).get(FALSE_POSITIVES) or {} for figures in found]
    known = [rate for rate in rates if rate.get("value") is not None]
    if not known:
        return None
    values = [float(rate["value"]) for rate in known]
    ends = [float(rate["ci95"][1]) for rate in known if rate.get("ci95")]
    return max(values), max([*values, *ends])


def _same_distribution_state(audit: Audit) -> str | None:
    data = (audit.get("membership") or {}).get("data") or {}
    state: str | None = (data.get("same_distribution") or {}).get("state")
    return state


def auc_text(figures: Mapping[str, Any], name: str = "auc") -> str:
    """An AUC with its 95 % interval: `0.512 (0.498–0.526)`."""
    ends = figures.get(f"{name}_ci95") or figures.get("ci95")
    shown = f"{figures[name]:z.3f}"
    return f"{shown} ({ends[0]:z.3f}–{ends[1]:z.3f})" if ends else shown


def caught(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields (false positive rate, true positive rate, its interval) of each measured rate."""
    for rate, found in sorted(figures["tpr_at_fpr"].items(), key=lambda pair: float(pair[0])):
        if found["value"] is not None:
            shown = percent(float(rate), 1).replace(".0 ", " ")
            yield shown, percent(found["value"]), interval(found["ci95"])


def attack_name(strongest: Mapping[str, Any]) -> str:
    """The attack and its target in words."""
    target = TARGETS.get(strongest["target"], strongest["target"])
    return f"{strongest['attack'].replace('_', ' ')} on {target}"
