"""Makes the section on fresh attackers: table and chart, beside chance."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.reporting.attacker_lines import claim_lines, unchecked
from tf_mtl_privacy.reporting.charts import Read, probe_chart
from tf_mtl_privacy.reporting.document import Block, Missing, Notice, Picture, Row, Table, Text
from tf_mtl_privacy.reporting.formats import MISSING, at_most, count, percent
from tf_mtl_privacy.reporting.privacy_card import private_name
from tf_mtl_privacy.reporting.reconcile_probes import GIVEN_AWAY, TARGETS, entry, given_away
from tf_mtl_privacy.reporting.run_folder import ReportRun, command

_OTHERS = {
    "planted": "a planted leak (must be found)",
    "removal_off": "features with removal off",
}
_OWN, _UNSEEN = "by attackers who learned from training pictures", "by attackers of unseen pictures"
_KINDS = {"own": _OWN, "unseen": _UNSEEN}
_HEADER = ("read from", "read right", "upper end", "balanced", "attacker", "learned from", "source")


def attacker_blocks(run: ReportRun, found: Mapping[str, Any] | None) -> Iterator[Block]:
    """Makes the blocks on what fresh attackers read of the private label.

    Args:
        run: the run.
        found: their readings (`reconcile_probes.leakage`), or None.
    """
    privacy = run.results["privacy"]
    send = command("evaluate", run, "--probe=fast")
    if not privacy.get("classes", 1):
        yield Text("This data has no private label.")
        return
    if found is None or not found["setting"] or not _measured(found):
        yield Missing("What fresh attackers read", send, "nothing is claimed without them")
    if found is None or not _measured(found):
        return
    yield Text(
        f"New attackers, which the encoder never met, learn {private_name(run.results)} from what "
        "the run gives away, with its networks frozen. For each target the highest reading is "
        "shown that any attacker of this run has reached on these weights: of every setting, of "
        "the audit, and of the run's own check in training."
    )
    for line in claim_lines(found):
        text = f"{line[0].upper()}{line[1:]}."
        yield Text(text) if found["claim"] else Notice(text)
    yield _chart(run, found)
    yield _table(run, found)
    if entry(found, "removal_off")["accuracy"] is None:
        yield Missing(
            "The same run with removal off, which shows that attackers are strong enough",
            f"{send} --removal_off=OTHER_RUN_DIR",
        )
    if found["before_game"] is not None:
        yield Text(
            f"Before the game, with any mask off, a quick attacker read "
            f"{percent(found['before_game'])} (balanced) of validation pictures from the features."
        )


def _measured(found: Mapping[str, Any]) -> list[str]:
    return [n for n in (*TARGETS, *_OTHERS) if entry(found, n)["accuracy"] is not None]


def _reads(found: Mapping[str, Any]) -> list[Read]:
    reads = []
    for name in ("removal_off", *TARGETS):
        figures = entry(found, name)
        if figures["accuracy"] is not None:
            words = {**TARGETS, "removal_off": "features, removal off"}[name]
            ends = figures["accuracy"], figures["upper"]
            reads.append(Read(words, figures["accuracy"], ends, name in GIVEN_AWAY))
    # References above, what is given away below.
    return sorted(reads, key=lambda read: (read.given, -read.accuracy))


def _chart(run: ReportRun, found: Mapping[str, Any]) -> Picture:
    privacy, reads = run.results["privacy"], _reads(found)
    told = "; ".join(
        f"{read.words} {percent(read.accuracy)} (upper end {at_most(read.ends[1])})"
        for read in reads
    )
    return Picture(
        "attackers",
        probe_chart(reads, privacy["chance"], privacy.get("majority")),
        f"Bars of what fresh attackers read: {told}. Chance: {percent(privacy['chance'])}.",
        "What fresh attackers read (blue: what the run gives away; grey: for comparison); the "
        "whisker ends at the upper end of the interval, the dashed line is chance.",
    )


def _table(run: ReportRun, found: Mapping[str, Any]) -> Table:
    worst_first = [words for words, _ in given_away(found)]
    names = sorted(
        (*TARGETS, *_OTHERS),
        key=lambda n: worst_first.index(TARGETS[n]) if TARGETS.get(n) in worst_first else 99,
    )
    rows, absent = [], []
    for name in names:
        figures, words = entry(found, name), {**TARGETS, **_OTHERS}[name]
        if figures["accuracy"] is not None:
            rows.append(Row((words, *_cells(figures)), own=name in GIVEN_AWAY))
            rows += _by_rows(figures)
        elif name in found:
            absent.append(f"{words} ({figures['reason']})")
    privacy = run.results["privacy"]
    notes = [
        f"Chance is {percent(privacy['chance'])}, the most frequent class "
        f"{percent(privacy.get('majority'))}. Setting: {found.get('setting') or 'not said'}. "
        "Read right is the larger of accuracy and balanced accuracy.",
        *(f"{line[0].upper()}{line[1:]}." for line in (*unchecked(found), *found["told"])),
        *([f"Not attacked: {'; '.join(absent)}."] if absent else []),
    ]
    return Table("Fresh attackers beside chance", _HEADER, tuple(rows), tuple(notes))


def _by_rows(figures: Mapping[str, Any]) -> list[Row]:
    """Makes a row for each kind of rows that attackers learned from, where there are several."""
    if len(figures["by_rows"]) < 2:
        return []
    return [
        Row(
            (
                f"· {_KINDS.get(kind, kind)}",
                percent(part["accuracy"]),
                at_most(part["upper"]),
                MISSING,
                MISSING,
                f"{count(part['rows'])} pictures" if part["rows"] else MISSING,
                MISSING,
            )
        )
        for kind, part in figures["by_rows"].items()
    ]


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    rows = figures.get("rows")
    return (
        percent(figures["accuracy"]),
        at_most(figures["upper"]),
        percent(figures["balanced_accuracy"]),
        figures["attacker"].replace("_", " "),
        f"{count(rows)} pictures" if rows else MISSING,
        figures["source"],
    )
