"""Says in words what an audit's figures of membership inference are worth."""

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
from tf_mtl_privacy.reporting.formats import interval, percent

TARGETS = {
    "business": "the classifier's answers",
    "features": "the features",
    "release": "all that is released",
}


# The false positive rate at which attacks are compared, as a key of audit.json.
FALSE_POSITIVES = "0.05"


def membership_verdict(audit: Mapping[str, Any]) -> str:
    """Returns the verdict on the figures of membership inference.

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


def membership_gap(audit: Mapping[str, Any], command: str) -> tuple[str, str] | None:
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
        reason = f"too little was found in {other['run_dir']} either"
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


def is_evidence(figures: Mapping[str, Any]) -> bool:
    """Tells if an attack's own figures beat chance, on average or for a few people."""
    ends = figures.get("auc_ci95")
    rates = (figures.get("tpr_at_fpr") or {}).items()
    return bool(ends and ends[0] > 0.5) or any(
        found["ci95"] is not None and found["ci95"][0] > float(rate) for rate, found in rates
    )


def unshown(audit: Mapping[str, Any]) -> str:
    """Says what the highest attack leaves open where its power is not shown; else empty.

    What was found needs no other run to be true: only a low figure does.
    """
    worst = worst_attack(audit)
    if not worst or membership_verdict(audit) != NO_POWER:
        return ""
    if not is_evidence(worst.figures):
        return "a low figure is no evidence, as the attacks' power is not shown"
    if _state(audit) == NOT_SHOWN:
        return "whether that is of training is not shown, as the rows are too few to tell"
    return "what was found is real; that nothing more can be found is not shown"


def told_apart(audit: Mapping[str, Any]) -> str:
    """Writes a clause where an attack tells members from others better than chance on average.

    That is where the interval of the area under its curve lies above a half. Of several the one
    whose interval begins highest; empty where there is none or figures are not of membership.
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
        "; the rows are too few to show that they do not differ by themselves"
        if _state(audit) == NOT_SHOWN
        else ""
    )
    return (
        "members of the training set can be told from others better than chance on average "
        f"(AUC {auc_text(figures)}, chance 0.5, by {named}, the highest of {len(found)} "
        f"attacks{few})"
    )


def attacks(membership: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """(target, attack, figures) of each attack, targets in their order."""
    for target in TARGETS:
        for attack, figures in (membership.get(target) or {}).items():
            if isinstance(figures, Mapping) and figures.get("auc") is not None:
                yield target, attack, figures


class WorstAttack(NamedTuple):
    """The membership attack that finds most, of all attacks of an audit.

    Attributes:
        figures: its figures, with `target` and `attack`: the largest upper end of the true positive
            rate at 5 % false positives, and without such a rate of the AUC.
        auc: the figures of the attack whose AUC ends highest, likewise; often another one.
        num_attacks: how many attacks there are.
        severity: how far above chance any of them ends, in [0, 1], see `membership_excess`.
    """

    figures: dict[str, Any]
    auc: dict[str, Any]
    num_attacks: int
    severity: float


def worst_attack(audit: Mapping[str, Any]) -> WorstAttack | None:
    """Finds the worst membership attack; None where no figure is of membership."""
    membership = audit.get("membership") or {}
    # First, so that of equal ones the chosen one is named.
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
    """Returns what attacks are sorted by: upper ends of the rate at 5 % false positives and AUC."""
    rate = (figures.get("tpr_at_fpr") or {}).get(FALSE_POSITIVES) or {}
    high = rate["ci95"][1] if rate.get("ci95") else rate.get("value")
    return (-1.0 if high is None else float(high)), _auc_end(figures)


def _auc_end(figures: Mapping[str, Any]) -> float:
    return float((figures.get("auc_ci95") or [figures["auc"], figures["auc"]])[1])


def membership_excess(figures: Mapping[str, Any]) -> float:
    """Returns how far above chance an attack's figures end, in [0, 1].

    It is the larger one of the Gini coefficient 2 AUC - 1 and, at 5 % false positives, the true
    positive rate beyond 5 % as a share of 95 %; of both the upper end of the 95 % interval.
    """
    high, area = membership_order(figures)
    chance = float(FALSE_POSITIVES)
    return max(0.0, 2 * area - 1, (high - chance) / (1 - chance))


def highest_rate(audit: Mapping[str, Any]) -> tuple[float, float] | None:
    """Returns the largest true positive rate at 5 % false positives, and the largest upper end.

    Both are taken over all attacks of the audit; None where no attack has such a rate.
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


def _state(audit: Mapping[str, Any]) -> str | None:
    """Of the check of members against others."""
    data = (audit.get("membership") or {}).get("data") or {}
    state: str | None = (data.get("same_distribution") or {}).get("state")
    return state


def auc_text(figures: Mapping[str, Any], name: str = "auc") -> str:
    """An area under a curve with its interval: `0.512 (0.498–0.526)`."""
    ends = figures.get(f"{name}_ci95") or figures.get("ci95")
    shown = f"{figures[name]:z.3f}"
    return f"{shown} ({ends[0]:z.3f}–{ends[1]:z.3f})" if ends else shown


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
