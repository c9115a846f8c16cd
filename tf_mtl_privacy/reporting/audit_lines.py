"""Writes what an audit found as a plain-text table for the terminal, the worst finding first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.attacker_lines import claim_lines, headline_text
from tf_mtl_privacy.reporting.audit_findings import (
    Finding,
    audit_findings,
    audit_gaps,
    beyond_chance,
)
from tf_mtl_privacy.reporting.formats import WIDTH, block, count, fitted, percent, wrapped
from tf_mtl_privacy.reporting.membership_words import (
    attacks,
    auc_text,
    membership_gap,
    membership_order,
    same_people_note,
)
from tf_mtl_privacy.reporting.reconcile_probes import leakage

_RATES = ("0.001", "0.01", "0.05")
_NAME, _CELL = 36, 10


def audit_table(audit: Mapping[str, Any], results: Mapping[str, Any] | None = None) -> str:
    """Writes the content of audit.json, at most 96 columns wide.

    Args:
        audit: the content of audit.json.
        results: that of results.json of the same weights, or None. What fresh attackers read is
            then the worst of both files.
    """
    rule = "─" * WIDTH
    # Where members and others differ, "Membership" says so already.
    gap = None if same_people_note(audit) else membership_gap(audit, "audit")
    findings = sorted(
        [*_private_label(audit, results), *audit_findings(audit)], key=lambda f: -f.severity
    )
    worst = [f"{finding.what}: {finding.text}" for finding in findings[:1] if finding.severity > 0]
    labels = {finding.label for finding in findings}
    blocks = [
        *(block(f.label, [f"{f.what}: {f.text}"]) for f in findings if f.severity >= 0),
        block("Membership", _noted(audit)) if "Membership" not in labels else [],
        block("Same kind of rows", _same(audit["membership"])),
        *(block(f.label, [f"{f.what}: {f.text}"]) for f in findings if f.severity < 0),
        block("Power of attacks", [gap[1]] if gap and "Power of attacks" not in labels else []),
        block("Not done", [f"{what}: {why}" for what, why in audit_gaps(audit)]),
        block("Withheld", _withheld(audit)),
    ]
    top = [
        *block("CONTRADICTED", audit["contradictions"]),
        *block("Worst finding", worst or ["none above chance"]),
    ]
    lines = [rule, *_title(audit), rule, *top, rule, *_attacks(audit["membership"]), rule]
    for found in blocks:
        lines += [*found, ""] if found else []
    return "\n".join([*lines[:-1], rule])


def _withheld(audit: Mapping[str, Any]) -> list[str]:
    return [f"{part['what']}; {part['why']}" for part in audit.get("contradictions_withheld", ())]


def _noted(audit: Mapping[str, Any]) -> list[str]:
    return [*filter(None, [same_people_note(audit)])]


def _title(audit: Mapping[str, Any]) -> list[str]:
    data = audit["membership"]["data"]
    return wrapped(
        [
            f"Audit ({audit['setting']}) of {audit['run_dir']}: {count(data['members'])} members, "
            f"{count(data['non_members'])} non-members; half of each to choose by, half reported"
        ],
        0,
    )


def _attacks(membership: Mapping[str, Any]) -> list[str]:
    head = "Membership attack".ljust(_NAME) + "".join(
        cell.rjust(_CELL)
        for cell in ("AUC", "advantage", *[f"{100 * float(rate):g} % FPR" for rate in _RATES])
    )
    lines = [head]
    # By the upper end at 5 % FPR, whichever attack was chosen on the other half.
    found_most = sorted(attacks(membership), key=lambda a: membership_order(a[2]), reverse=True)
    for target, name, found in found_most:
        cells = [f"{found['auc']:.3f}", percent(found["advantage"])]
        cells += [percent((found["tpr_at_fpr"].get(rate) or {}).get("value")) for rate in _RATES]
        label = fitted(f"{target}: {name.replace('_', ' ')}", _NAME - 1).ljust(_NAME)
        lines.append(label + "".join(cell.rjust(_CELL) for cell in cells))
    legend = (
        "chance: AUC 0.5, advantage 0 %, true positive rate equal to the false positive rate (FPR)"
    )
    return [*lines, "", *wrapped([legend], 0)]


def _same(membership: Mapping[str, Any]) -> list[str]:
    found = membership["data"]["same_distribution"]
    return [f"members and others told apart without any model: AUC {auc_text(found)}, chance 0.5"]


def _private_label(audit: Mapping[str, Any], results: Mapping[str, Any] | None) -> list[Finding]:
    """Describes what fresh attackers read of the private label, of everything that is known."""
    known = results or {"config": audit.get("config"), "privacy": {}}
    found = leakage(known, audit)
    if not found:
        return []
    what = f"the private label, by fresh attackers ({found['setting'] or 'check in training'})"
    if not found["worst"]:
        return [Finding(what, "not measured", -1.0, "Private label")]
    chance = known["privacy"].get("chance")
    text = headline_text(found) + (f"; chance {percent(chance)}" if chance is not None else "")
    text = "; ".join([text, *found["told"], *claim_lines(found)])
    severity = beyond_chance(found["worst"]["upper"], chance or 0.0)
    return [Finding(what, text, severity, "Private label")]
