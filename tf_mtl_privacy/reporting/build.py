"""Builds the report of finished runs and writes it as HTML and Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tf_mtl_privacy.files import private_dir, write_atomic
from tf_mtl_privacy.reporting.document import Block, Report, Section
from tf_mtl_privacy.reporting.privacy_card import privacy_card
from tf_mtl_privacy.reporting.reconcile_probes import audit_is_of, leakage
from tf_mtl_privacy.reporting.render_html import report_html
from tf_mtl_privacy.reporting.render_markdown import report_markdown
from tf_mtl_privacy.reporting.runs import ReportRun
from tf_mtl_privacy.reporting.sections.attackers import attacker_blocks
from tf_mtl_privacy.reporting.sections.audit import audit_blocks
from tf_mtl_privacy.reporting.sections.comparison import (
    comparison_table,
    table_1,
    table_2,
    table_3,
)
from tf_mtl_privacy.reporting.sections.privacy import card_blocks, epsilon_blocks
from tf_mtl_privacy.reporting.sections.summary import summary, tiles
from tf_mtl_privacy.reporting.sections.training import (
    figure_2_blocks,
    provenance_blocks,
    training_blocks,
)
from tf_mtl_privacy.reporting.sections.utility import picture_blocks, task_blocks


def build_report(run: ReportRun, others: Sequence[ReportRun] = ()) -> Report:
    """Builds the report of a run.

    Args:
        run: the reported run.
        others: runs to compare with it.
    """
    runs = [_with_own_audit(one) for one in (run, *others)]
    results, audit = run.results, runs[0].audit
    card = privacy_card(results, run.audit, run.quoted)
    found = leakage(results, audit)
    lfw, missing = table_2(runs)
    stale = run.audit is not None and audit is None
    parts: dict[tuple[str, str], Iterable[Block]] = {
        ("card", "Privacy card"): card_blocks(card, summary=False),
        ("attackers", "Leakage to fresh attackers"): attacker_blocks(results, found, run.quoted),
        ("utility", "Utility"): task_blocks(results),
        ("pictures", "Images"): picture_blocks(run),
        ("paper", "The paper's tables"): (table_1(runs), lfw, *missing, table_3(runs)),
        ("figure2", "The paper's Figure 2"): figure_2_blocks(run),
        ("training", "Training"): training_blocks(run),
        ("audit", "Audit"): audit_blocks(audit, run.quoted, results, stale=stale),
        ("epsilon", "Epsilon over steps"): epsilon_blocks(results["dp"]),
        ("provenance", "Provenance"): provenance_blocks(run),
    }
    sections = [Section(*name, tuple(blocks)) for name, blocks in parts.items()]
    if others:
        sections.insert(1, Section("runs", "Comparison of runs", (comparison_table(runs),)))
    return Report(
        title=f"Privacy report of {run.name}",
        subtitle=f"{run.title} on {run.dataset}, seed {results.get('seed')}",
        summary=tuple(summary(run, card)),
        warnings=tuple(f"CONTRADICTED: {text}" for text in card["contradictions"]),
        tiles=tuple(tiles(runs[0], card, found)),
        sections=tuple(sections),
    )


def write_report(report: Report, html: Path) -> dict[str, str]:
    """Writes `NAME.html`, and beside it `NAME.md` and the pictures of both in `NAME/`.

    Only the owner may read them, as they are about people.

    Args:
        report: the report.
        html: the HTML file.

    Returns:
        Path -> description.

    Raises:
        RunError: something cannot be written.
    """
    folder = private_dir(html.with_suffix(""))
    for picture in report.pictures:
        write_atomic(folder / f"{picture.name}.png", picture.png, private=True)
    page = html.with_suffix(".md")
    write_atomic(page, report_markdown(report, folder.name), private=True)
    write_atomic(html, report_html(report), private=True)
    return {
        str(html): "the report, for a browser",
        str(page): "the same as Markdown",
        str(folder): "its pictures",
    }


def _with_own_audit(run: ReportRun) -> ReportRun:
    """The run, without the audit of another run."""
    if run.audit is None or audit_is_of(run.results, run.audit):
        return run
    return run._replace(audit=None)
