"""The section on the audit: membership inference, inversion, the test of the claimed epsilon."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tf_mtl_privacy.reporting.audit_findings import audit_findings, audit_gaps, power_name
from tf_mtl_privacy.reporting.charts import Roc, roc_chart
from tf_mtl_privacy.reporting.document import (
    Block,
    Items,
    Missing,
    Notice,
    Picture,
    Row,
    Table,
    Text,
)
from tf_mtl_privacy.reporting.formats import MISSING, count, percent
from tf_mtl_privacy.reporting.membership_words import (
    TARGETS,
    attack_name,
    attacks,
    auc_text,
    caught,
    membership_order,
    same_people_note,
)
from tf_mtl_privacy.reporting.run_folder import ReportRun, command

_RATES = ("0.001", "0.01", "0.05")


def audit_blocks(run: ReportRun, audit: Mapping[str, Any] | None) -> Iterator[Block]:
    """Makes the blocks on an audit.

    Args:
        run: the run.
        audit: its audit; None where there is none or it is of another run.
    """
    if audit is None:
        why = "the audit.json in the folder is of another run" if run.audit else ""
        yield Missing(
            "Membership inference with its ROC, inversion, the test of the claimed epsilon",
            command("audit", run, "--setting=fast"),
            why,
        )
        return
    for sentence in audit.get("contradictions") or ():
        yield Notice(f"A claim is contradicted: {sentence}")
    findings = audit_findings(audit)
    if findings:
        yield Items("Findings, the worst first", tuple(f"{f.what}: {f.text}" for f in findings))
    membership = audit.get("membership") or {}
    if membership:
        yield from _membership(run, membership)
    if note := same_people_note(audit):
        yield Notice(note)
    gaps = audit_gaps(audit)
    if gaps:
        yield Items("What the audit did not do", tuple(f"{what}: {why}" for what, why in gaps))


def _membership(run: ReportRun, membership: Mapping[str, Any]) -> Iterator[Block]:
    data = membership.get("data") or {}
    if data:
        check = data.get("same_distribution")
        alike = (
            f" Without any model the two are told apart with AUC {auc_text(check)}."
            if check
            else ""
        )
        yield Text(
            f"Attacks tell {count(data.get('members'))} training pictures from "
            f"{count(data.get('non_members'))} others. Every figure is of one half of the rows; on "
            f"the other half one attack is chosen.{alike}"
        )
    yield _table(membership)
    if not membership.get("power"):
        yield Missing(
            "The same attacks on an overfitted run, which shows that they have power",
            command("audit", run, "--power_run=OVERFITTED_RUN_DIR"),
        )
    curves = _curves(membership)
    if curves:
        yield _roc(membership, curves)


def _table(membership: Mapping[str, Any]) -> Table:
    rows = [
        Row((TARGETS[target], attack.replace("_", " "), *_cells(figures)))
        # The attack that ends highest comes first.
        for target, attack, figures in sorted(
            attacks(membership), key=lambda found: membership_order(found[2]), reverse=True
        )
    ]
    notes = []
    if best := membership.get("strongest"):
        rows.append(Row((f"chosen: {attack_name(best)}", "other half", *_cells(best)), own=True))
    missing = [rate for rate in _RATES if _value(best, rate) is None] if best else []
    if missing:
        shown = ", ".join(percent(float(rate)) for rate in missing)
        notes.append(f"Not stated at {shown} false positives: too few other pictures for it.")
    if power := membership.get("power"):
        rows.append(Row((power_name(power), power["attack"].replace("_", " "), *_cells(power))))
    header = ("attacked", "attack", "AUC (0.5 is chance)", "advantage")
    rates = tuple(f"found at {percent(float(rate))} false positives" for rate in _RATES)
    return Table("Membership inference", (*header, *rates), tuple(rows), tuple(notes))


def _value(figures: Mapping[str, Any], rate: str) -> float | None:
    found = (figures.get("tpr_at_fpr") or {}).get(rate) or {}
    return found.get("value")


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    found = {float(false.split()[0]): f"{true} ({ends})" for false, true, ends in caught(figures)}
    rates = (found.get(100 * float(rate), MISSING) for rate in _RATES)
    return auc_text(figures), auc_text(figures, "advantage"), *rates


def _curves(membership: Mapping[str, Any]) -> list[Roc]:
    """All attacks' curves, so that none is picked by what it reads here, and the chosen one."""
    found = [
        (TARGETS[target], figures["roc"])
        for target, _, figures in attacks(membership)
        if figures.get("roc")
    ]
    many = Counter(words for words, _ in found)
    curves = [
        Roc(f"{words} ({many[words]} attack{'s' * (many[words] > 1)})", roc["fpr"], roc["tpr"])
        for words, roc in found
    ]
    best = membership.get("strongest")
    if best and best.get("roc"):
        curves.append(
            Roc(f"chosen: {attack_name(best)}", best["roc"]["fpr"], best["roc"]["tpr"], chosen=True)
        )
    return curves


def _roc(membership: Mapping[str, Any], curves: Sequence[Roc]) -> Picture:
    others = (membership.get("data") or {}).get("non_members") or 1000
    told = "; ".join(
        f"{TARGETS[target]}, {attack.replace('_', ' ')}: AUC {auc_text(figures)}"
        for target, attack, figures in attacks(membership)
    )
    return Picture(
        "roc",
        # A tenth of a per mille of 1,000 pictures is nobody: nothing is drawn where there are none.
        roc_chart(curves, max(1e-4, min(1e-2, 1 / others))),
        f"ROC of membership inference on logarithmic axes. {told}. The diagonal is chance.",
        "Membership inference: training pictures found over false positives, both on logarithmic "
        "axes. Thin: all attacks; thick: the one that was chosen on the other half. On the dashed "
        "diagonal lies chance; what is far above it on the left finds some people for sure.",
    )
