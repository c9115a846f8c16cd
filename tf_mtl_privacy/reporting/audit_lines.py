"""What an audit found, as a short plain-text table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.formats import MISSING, count, decibel, interval, percent
from tf_mtl_privacy.reporting.layout import WIDTH, block, fitted, wrapped

_RATES = ("0.001", "0.01", "0.05")
_NAME, _CELL = 36, 10


def audit_table(audit: Mapping[str, Any]) -> str:
    """The content of audit.json, at most 96 columns wide."""
    rule = "─" * WIDTH
    blocks = [
        block("Strongest", _strongest(audit["membership"])),
        block("Same kind of rows", _same(audit["membership"])),
        block("Power of attacks", _power(audit["membership"]["power"])),
        block("Private label", _attributes(audit["attributes"])),
        block("Inversion", _inversion(audit["inversion"])),
        block("Epsilon", _epsilon(audit["dp_audit"])),
        block("Not done", [f"{part['what']}: {part['why']}" for part in audit["not_done"]]),
        block("CONTRADICTED", audit["contradictions"]),
    ]
    lines = [rule, *_title(audit), rule, *_attacks(audit["membership"]), rule]
    for found in blocks:
        lines += [*found, ""] if found else []
    return "\n".join([*lines[:-1], rule])


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


def _strongest(membership: Mapping[str, Any]) -> list[str]:
    best = membership["strongest"]
    at = best["tpr_at_fpr"]["0.05"]
    return [
        f"{best['attack'].replace('_', ' ')} on {best['target']}: catches {percent(at['value'])} "
        f"of members at 5 % FPR (95 % interval {interval(at['ci95'])}), AUC {best['auc']:.3f}"
    ]


def _same(membership: Mapping[str, Any]) -> list[str]:
    found = membership["data"]["same_distribution"]
    low, high = found["ci95"]
    figures = f"a reader of pictures alone: AUC {found['auc']:.3f} ({low:.3f} to {high:.3f})"
    if found["ok"]:
        return [figures]
    return [f"{figures}: members and non-members differ, so figures above are not of membership"]


def _power(power: Mapping[str, Any] | None) -> list[str]:
    if power is None:
        return ["not shown: --power_run names an overfitted run to compare with"]
    at = power["tpr_at_fpr"]["0.05"]
    return [
        f"{power['run_dir']}: {power['attack'].replace('_', ' ')} on {power['target']} catches "
        f"{percent(at['value'])} at 5 % FPR (95 % interval {interval(at['ci95'])})"
    ]


def _attributes(probe: Mapping[str, Any] | None) -> list[str]:
    if probe is None:
        return []
    strongest = probe["features"].get("strongest")
    if not strongest:
        return [f"fresh attackers ({probe['setting']}): not measured"]
    weak = " (underpowered: nothing is claimed)" if probe["underpowered"] else ""
    return [
        f"fresh attackers ({probe['setting']}) read {percent(strongest['balanced_accuracy'])} of "
        f"it from features, balanced{weak}"
    ]


def _inversion(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    mean = found["mean_image"]
    return [
        f"an attacker's decoder: PSNR {decibel(found['psnr_db'])}, SSIM {found['ssim']:.3f} (mean "
        f"image {decibel(mean['psnr_db'])}, {mean['ssim']:.3f})",
        f"nearest is right for {percent(found['retrieval_rank1'])} of {count(found['images'])} "
        f"pictures (95 % interval {interval(found['retrieval_rank1_ci95'])}, chance "
        f"{percent(found['chance'], 2)})",
    ]


def _epsilon(found: Mapping[str, Any] | None) -> list[str]:
    if found is None:
        return []
    return [found["text"] or MISSING]
