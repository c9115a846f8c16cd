"""What an audit found, as a short plain-text table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.attacker_lines import reading_text
from tf_mtl_privacy.reporting.audit_findings import (
    audit_gaps,
    claimed_epsilon,
    inversion,
    power,
    strongest,
)
from tf_mtl_privacy.reporting.formats import count, percent
from tf_mtl_privacy.reporting.layout import WIDTH, block, fitted, wrapped
from tf_mtl_privacy.reporting.membership_words import auc_text, membership_gap, same_people_note

_RATES = ("0.001", "0.01", "0.05")
_NAME, _CELL = 36, 10


def audit_table(audit: Mapping[str, Any]) -> str:
    """The content of audit.json, at most 96 columns wide."""
    rule = "─" * WIDTH
    # Where members and others differ, "Strongest" says so already.
    gap = None if same_people_note(audit) else membership_gap(audit, "audit")
    blocks = [
        block("Strongest", _told(strongest(audit)) or _noted(audit)),
        block("Same kind of rows", _same(audit["membership"])),
        block("Power of attacks", _told(power(audit)) or ([gap[1]] if gap else [])),
        block("Private label", _attributes(audit["attributes"])),
        block("Inversion", _told(inversion(audit))),
        block("Epsilon", _told(claimed_epsilon(audit))),
        block("Not done", [f"{what}: {why}" for what, why in audit_gaps(audit)]),
        block("CONTRADICTED", audit["contradictions"]),
        block("Withheld", _withheld(audit)),
    ]
    lines = [rule, *_title(audit), rule, *_attacks(audit["membership"]), rule]
    for found in blocks:
        lines += [*found, ""] if found else []
    return "\n".join([*lines[:-1], rule])


def _withheld(audit: Mapping[str, Any]) -> list[str]:
    return [f"{part['what']}; {part['why']}" for part in audit.get("contradictions_withheld", ())]


def _told(finding: tuple[str, str] | None) -> list[str]:
    return [f"{finding[0]}: {finding[1]}"] if finding else []


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
    for target in ("business", "features", "release"):
        for name, found in membership.get(target, {}).items():
            cells = [f"{found['auc']:.3f}", percent(found["advantage"])]
            cells += [percent(found["tpr_at_fpr"][rate]["value"]) for rate in _RATES]
            label = fitted(f"{target}: {name.replace('_', ' ')}", _NAME - 1).ljust(_NAME)
            lines.append(label + "".join(cell.rjust(_CELL) for cell in cells))
    legend = "a guess: AUC 0.5, advantage 0 %, and as many members caught as non-members accused"
    return [*lines, "", *wrapped([legend], 0)]


def _same(membership: Mapping[str, Any]) -> list[str]:
    found = membership["data"]["same_distribution"]
    return [f"members and others told apart without any model: AUC {auc_text(found)}, a guess 0.5"]


def _attributes(probe: Mapping[str, Any] | None) -> list[str]:
    if probe is None:
        return []
    best = probe["features"].get("strongest")
    if not best:
        return [f"fresh attackers ({probe['setting']}): not measured"]
    weak = "; underpowered: nothing is claimed" if probe["underpowered"] else ""
    return [f"fresh attackers ({probe['setting']}) on features: {reading_text(best)}{weak}"]
