"""Section on an audit: findings, membership attacks with their ROC, and what was not tested.

`audit_summary` is the screen that ends the audit command; `audit_text` is the whole of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tf_mtl_privacy.evaluation.schema import Audit, Results
from tf_mtl_privacy.reporting.audit_findings import (
    TARGETS,
    Finding,
    attack_name,
    attacks,
    auc_text,
    audit_findings,
    audit_gaps,
    beyond_chance,
    caught,
    membership_gap,
    membership_order,
    power_name,
    sample_difference_note,
)
from tf_mtl_privacy.reporting.charts import Roc, roc_chart
from tf_mtl_privacy.reporting.document import (
    Block,
    Fields,
    Items,
    Missing,
    Notice,
    Paragraph,
    Picture,
    Row,
    Table,
)
from tf_mtl_privacy.reporting.formats import MISSING, count, percent, reworded, sentence
from tf_mtl_privacy.reporting.reconcile_probes import headline_text, leakage
from tf_mtl_privacy.reporting.render_text import WIDTH, cut, render_text, terminal_width
from tf_mtl_privacy.reporting.runs import command
from tf_mtl_privacy.reporting.sections.attackers import claim_sentences

_RATES = ("0.001", "0.01", "0.05")
_SCREEN, _MAX_GAPS = 30, 5


def audit_blocks(
    audit: Audit | None,
    run_dir: str,
    results: Results | None = None,
    *,
    stale: bool = False,
    chart: bool = True,
) -> Iterator[Block]:
    """Builds the blocks on an audit.

    Args:
        audit: content of audit.json, or None.
        run_dir: quoted folder of the run, for commands.
        results: content of results.json of the same weights, or None. The leakage of the private
            label is then the worst of both files.
        stale: whether the folder has an audit of another run.
        chart: whether to draw the ROC curves.
    """
    if audit is None:
        yield Missing(
            "the audit: membership inference with its ROC, inversion, test of the claimed epsilon",
            command("audit", run_dir, "--setting=fast"),
            "the audit.json in the folder is of another run" if stale else "",
        )
        return
    for text in audit.get("contradictions") or ():
        yield Notice(f"CONTRADICTED: an audited claim does not hold: {reworded(text)}")
    findings = _findings(audit, results)
    told = tuple(sentence(f"{f.what}: {f.text}") for f in findings)
    yield Items("Findings, the worst first", told or ("None above chance.",))
    membership = audit.get("membership") or {}
    if membership:
        yield from _membership(run_dir, membership, chart=chart)
    if note := sample_difference_note(audit):
        yield Notice(note)
    elif gap := membership_gap(audit, "audit"):
        yield Items("Power of the membership attacks", (sentence(gap[1]),))
    if gaps := audit_gaps(audit):
        yield Items("Not tested", tuple(f"{what}: {why}" for what, why in gaps))
    if withheld := _withheld(audit):
        yield Items("Withheld contradictions", tuple(withheld))


def audit_text(audit: Audit, results: Results | None = None, width: int = WIDTH) -> str:
    """The whole audit for the terminal.

    Args:
        audit: content of audit.json.
        results: content of results.json of the same weights, or None.
        width: columns.
    """
    blocks = audit_blocks(audit, str(audit["run_dir"]), results, chart=False)
    return render_text([Paragraph(_title(audit)), *blocks], width)


def audit_screen(
    audit: Audit, results: Results | None, files: Mapping[str, str], *, verbose: bool
) -> str:
    """Text that ends the command `audit`, as wide as the terminal.

    Args:
        audit: content of audit.json.
        results: content of results.json of the same weights, or None.
        files: path -> description of the files written.
        verbose: everything instead of the summary.
    """
    width = terminal_width()
    if verbose:
        return audit_text(audit, results, width)
    return render_text(audit_summary(audit, results, files, width), width)


def audit_summary(
    audit: Audit,
    results: Results | None = None,
    files: Mapping[str, str] | None = None,
    width: int = WIDTH,
) -> list[Block]:
    """Builds one screen on an audit, at most 30 lines at 100 columns.

    Args:
        audit: content of audit.json.
        results: content of results.json of the same weights, or None.
        files: path -> description of the files written.
        width: columns that it will be rendered at.
    """
    for num_lines in (6, 5, 4, 3):
        blocks = _screen(audit, results, files or {}, width, num_lines)
        if render_text(blocks, width).count("\n") < _SCREEN:
            break
    return blocks


def _screen(
    audit: Audit, results: Results | None, files: Mapping[str, str], width: int, num_lines: int
) -> list[Block]:
    """Builds the screen with at most so many lines per finding."""
    findings = _findings(audit, results)
    labels = {finding.label for finding in findings}
    warnings = [f"CONTRADICTED: {reworded(text)}" for text in audit["contradictions"]]
    if note := sample_difference_note(audit):
        warnings.append(note)
    elif "Attack power" not in labels and (gap := membership_gap(audit, "audit")):
        warnings.append(f"power of the membership attacks {gap[1]}")
    worst = findings[0] if findings and findings[0].severity > 0 else None
    top: list[tuple[str, tuple[str, ...]]] = [
        *(("Warning", (cut(text, width, 2),)) for text in warnings[:3]),
        ("Worst finding", (worst.what if worst else "none above chance",)),
    ]
    told = tuple(cut(sentence(f"{f.what}: {f.text}"), width, num_lines) for f in findings)
    fields: list[tuple[str, tuple[str, ...]]] = []
    gaps = [what for what, _ in audit_gaps(audit)]
    if gaps:
        more = f" and {len(gaps) - _MAX_GAPS} more" if len(gaps) > _MAX_GAPS else ""
        names = f"{', '.join(gaps[:_MAX_GAPS])}{more} (reasons: --verbose)"
        fields.append(("Not tested", (cut(names, width, 2),)))
    if withheld := _withheld(audit):
        fields.append(("Withheld", (cut("; ".join(withheld), width, 2),)))
    if files:
        fields.append(("Files", tuple(files)[:3]))
    return [
        Paragraph(_title(audit)),
        Fields(tuple(top)),
        Items("Findings, the worst first", told),
        Fields(tuple(fields)),
    ]


def _findings(audit: Audit, results: Results | None) -> list[Finding]:
    found = [*_private_label(audit, results), *audit_findings(audit)]
    return sorted(found, key=lambda finding: -finding.severity)


def _private_label(audit: Audit, results: Results | None) -> list[Finding]:
    """The leakage of the private label, from all measurements of both files."""
    known: Mapping[str, Any] = results or {"config": audit.get("config"), "privacy": {}}
    found = leakage(known, audit)
    if not found:
        return []
    what = f"private label (fresh attackers, {found['setting'] or 'check in training'})"
    if not found["worst"]:
        return [Finding(what, "not measured", -1.0, "Private label")]
    chance = known["privacy"].get("chance")
    text = headline_text(found) + (f"; chance {percent(chance)}" if chance is not None else "")
    text = " ".join(
        [f"{text}.", *claim_sentences(found), *(sentence(reworded(told)) for told in found["told"])]
    )
    severity = beyond_chance(found["worst"]["upper"], chance or 0.0)
    return [Finding(what, text, severity, "Private label")]


def _withheld(audit: Audit) -> list[str]:
    parts = audit.get("contradictions_withheld") or ()
    return [reworded(f"{part['what']}; {part['why']}") for part in parts]


def _title(audit: Audit) -> str:
    data = audit["membership"]["data"]
    return (
        f"Audit ({audit['setting']}) of {audit['run_dir']}: {count(data['members'])} members, "
        f"{count(data['non_members'])} non-members"
    )


def _membership(run_dir: str, membership: Mapping[str, Any], *, chart: bool) -> Iterator[Block]:
    data = membership.get("data") or {}
    if data:
        check = data.get("same_distribution")
        alike = (
            f" Without any model, a classifier separates them with AUC {auc_text(check)} (chance "
            "0.5)."
            if check
            else ""
        )
        yield Paragraph(
            f"The attacks separate {count(data.get('members'))} training images (members) from "
            f"{count(data.get('non_members'))} others (non-members). The attack is "
            f"chosen on one half of the rows; all figures are of the other half.{alike}"
        )
    yield _table(membership)
    if not membership.get("power"):
        yield Missing(
            "the same attacks on an overfitted reference run, which shows that they have power",
            command("audit", run_dir, "--overfit_reference_run=OVERFITTED_RUN_DIR"),
        )
    curves = _curves(membership)
    if chart and curves:
        yield _roc(membership, curves)


def _table(membership: Mapping[str, Any]) -> Table:
    rows = [
        Row((TARGETS[target], attack.replace("_", " "), *_cells(figures)))
        # The attack with the highest upper bound comes first.
        for target, attack, figures in sorted(
            attacks(membership), key=lambda found: membership_order(found[2]), reverse=True
        )
    ]
    notes = ["Chance: AUC 0.5, advantage 0, and a true positive rate equal to the false one."]
    if best := membership.get("strongest"):
        rows.append(Row((f"chosen: {attack_name(best)}", "other half", *_cells(best)), own=True))
    missing = [rate for rate in _RATES if _value(best, rate) is None] if best else []
    if missing:
        shown = ", ".join(percent(float(rate)) for rate in missing)
        notes.append(f"Not stated at {shown} false positives: too few non-members.")
    if power := membership.get("power"):
        rows.append(Row((power_name(power), power["attack"].replace("_", " "), *_cells(power))))
    rates = tuple(f"TPR at {percent(float(rate))} FPR" for rate in _RATES)
    header = ("target", "attack", "AUC", "advantage", *rates)
    return Table("Membership inference", header, tuple(rows), tuple(notes))


def _value(figures: Mapping[str, Any], rate: str) -> float | None:
    found = (figures.get("tpr_at_fpr") or {}).get(rate) or {}
    return found.get("value")


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    found = {float(false.split()[0]): f"{true} ({ends})" for false, true, ends in caught(figures)}
    rates = (found.get(100 * float(rate), MISSING) for rate in _RATES)
    return auc_text(figures), auc_text(figures, "advantage"), *rates


def _curves(membership: Mapping[str, Any]) -> list[Roc]:
    """The curves of all attacks, so that none is selected by its result, and the chosen one."""
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
        # False positive rates below one non-member cannot be measured.
        roc_chart(curves, max(1e-4, min(1e-2, 1 / others))),
        f"ROC of membership inference on logarithmic axes. {told}. The diagonal is chance.",
        "ROC of membership inference on logarithmic axes. Thin: all attacks; thick: the one chosen "
        "on the other half of the rows. The dashed diagonal is chance; a curve far above it on the "
        "left identifies some training images with certainty.",
    )
