"""Puts a report together out of finished runs."""

from __future__ import annotations

from collections.abc import Sequence

from tf_mtl_privacy.reporting.document import Report, Section
from tf_mtl_privacy.reporting.privacy_card import privacy_card
from tf_mtl_privacy.reporting.reconcile_probes import audit_is_of, leakage
from tf_mtl_privacy.reporting.run_folder import ReportRun
from tf_mtl_privacy.reporting.sections.attackers import attacker_blocks
from tf_mtl_privacy.reporting.sections.comparison import comparison_table
from tf_mtl_privacy.reporting.sections.headline import summary, tiles
from tf_mtl_privacy.reporting.sections.membership import audit_blocks
from tf_mtl_privacy.reporting.sections.paper_tables import table_1, table_2, table_3
from tf_mtl_privacy.reporting.sections.pictures import picture_blocks
from tf_mtl_privacy.reporting.sections.privacy import card_blocks, epsilon_blocks
from tf_mtl_privacy.reporting.sections.provenance import provenance_blocks
from tf_mtl_privacy.reporting.sections.training import figure_2_blocks, training_blocks


def build_report(run: ReportRun, others: Sequence[ReportRun] = ()) -> Report:
    """The report of a run, with other runs beside it.

    Args:
        run: what it is about.
        others: whose columns stand beside it.
    """
    runs = [_with_its_audit(one) for one in (run, *others)]
    results, audit = run.results, runs[0].audit
    card = privacy_card(results, run.audit, run.quoted)
    attackers = leakage(results, audit)
    lfw, missing = table_2(runs)
    sections = [
        Section("card", "Privacy card", tuple(card_blocks(card))),
        Section("attackers", "What fresh attackers read", tuple(attacker_blocks(run, attackers))),
        Section("pictures", "Pictures", tuple(picture_blocks(run))),
        Section("paper", "The paper's tables", (table_1(runs), lfw, *missing, table_3(runs))),
        Section("figure2", "The paper's Figure 2", tuple(figure_2_blocks(run))),
        Section("training", "Training", tuple(training_blocks(run))),
        Section("audit", "Membership inference and the audit", tuple(audit_blocks(run, audit))),
        Section("epsilon", "Epsilon over steps", tuple(epsilon_blocks(results["dp"]))),
        Section("provenance", "Where this comes from", tuple(provenance_blocks(run))),
    ]
    if others:
        sections.insert(1, Section("runs", "Beside other runs", (comparison_table(runs),)))
    return Report(
        title=f"Privacy report of {run.name}",
        subtitle=f"{run.title} on {run.dataset}, seed {results.get('seed')}",
        summary=tuple(summary(run, card)),
        warnings=tuple(card["contradictions"]),
        tiles=tuple(tiles(runs[0], card, attackers)),
        sections=tuple(sections),
    )


def _with_its_audit(run: ReportRun) -> ReportRun:
    """The run without an audit that is not of it."""
    if run.audit is None or audit_is_of(run.results, run.audit):
        return run
    return run._replace(audit=None)
