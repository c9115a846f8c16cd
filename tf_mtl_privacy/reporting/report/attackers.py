"""The section on fresh attackers: table and chart against a guess."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.reporting.attacker_lines import GIVEN_AWAY, TARGETS, unchecked
from tf_mtl_privacy.reporting.charts.probe_chart import Read, probe_chart
from tf_mtl_privacy.reporting.formats import MISSING, count, interval, percent
from tf_mtl_privacy.reporting.privacy_card import private_name
from tf_mtl_privacy.reporting.report.document import (
    Block,
    Missing,
    Notice,
    Picture,
    Row,
    Table,
    Text,
)
from tf_mtl_privacy.reporting.report.run_folder import ReportRun, command
from tf_mtl_privacy.reporting.standing import Standing

_OTHERS = {
    "planted": "a planted leak (must be found)",
    "removal_off": "features with removal off",
    "own": "features, by attackers who have training pictures",
}
_HEADER = ("read from", "read right", "95 % interval", "balanced", "attacker", "learned from")


def attacker_blocks(run: ReportRun, found: Standing) -> Iterator[Block]:
    """What fresh attackers read of the private label.

    Args:
        run: the run.
        found: their readings that stand (`standing.standing_probe`).
    """
    privacy, probe = run.results["privacy"], found.probe
    send = command("evaluate", run, "--probe=fast")
    if not privacy.get("classes", 1):
        yield Text("This data has no private label.")
        return
    if probe is None or not _measured(probe):
        yield Missing("What fresh attackers read", send, "nothing is claimed without them")
        return
    yield Text(
        f"New attackers, which the encoder never met, learn {private_name(run.results)} from what "
        "the run gives away, with its networks frozen. The strongest of each kind is shown, chosen "
        "on validation pictures and read once on test pictures."
    )
    if probe.get("underpowered"):
        reasons = "; ".join(probe.get("underpowered_reasons") or ())
        yield Notice(f"These attackers are too weak for any claim: {reasons}.")
    yield _chart(run, probe)
    yield _table(run, probe, found.told)
    if not _best(probe, "removal_off"):
        yield Missing(
            "The same run with removal off, which shows that attackers are strong enough",
            f"{send} --removal_off=OTHER_RUN_DIR",
        )
    before = (probe.get("before_game") or {}).get("balanced_accuracy")
    if before is not None:
        yield Text(
            f"Before the game, with any mask off, a quick attacker read {percent(before)} "
            "(balanced) of validation pictures from the features."
        )


def _measured(probe: Mapping[str, Any]) -> list[str]:
    return [name for name in (*TARGETS, *_OTHERS) if _best(probe, name)]


def _best(probe: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    return _part(probe, name).get("strongest")


def _part(probe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if name == "own":
        return (probe.get("features") or {}).get("own") or {}
    return probe.get(name) or {}


def _reads(probe: Mapping[str, Any]) -> list[Read]:
    found = []
    for name in ("removal_off", *TARGETS, "own"):
        if best := _best(probe, name):
            low, high = best["ci95"]
            words = {**TARGETS, "removal_off": "features, removal off", "own": "features, own rows"}
            given = name in GIVEN_AWAY or name == "own"
            found.append(Read(words[name], best["accuracy"], (low, high), given))
    # What could be read at most above, what is given away below.
    return sorted(found, key=lambda read: (read.given, -read.accuracy))


def _chart(run: ReportRun, probe: Mapping[str, Any]) -> Picture:
    privacy, reads = run.results["privacy"], _reads(probe)
    told = "; ".join(
        f"{read.words} {percent(read.accuracy)} ({interval(list(read.ends))})" for read in reads
    )
    return Picture(
        "attackers",
        probe_chart(reads, privacy["chance"], privacy.get("majority")),
        f"Bars of what fresh attackers read: {told}. A guess: {percent(privacy['chance'])}.",
        "What fresh attackers read (blue: what the run gives away; grey: for comparison), with "
        "95 % intervals; the dashed line is a guess.",
    )


def _table(run: ReportRun, probe: Mapping[str, Any], told: Mapping[str, str]) -> Table:
    rows, absent = [], []
    for name in (*TARGETS, *_OTHERS):
        part, best = _part(probe, name), _best(probe, name)
        words = {**TARGETS, **_OTHERS}[name]
        if best:
            rows.append(Row((words, *_cells(part, best)), own=name in GIVEN_AWAY))
        elif part.get("reason"):
            absent.append(f"{words} ({part['reason']})")
    privacy = run.results["privacy"]
    notes = [
        f"A guess is right in {percent(privacy['chance'])}, the most frequent class in "
        f"{percent(privacy.get('majority'))}. Setting: {probe.get('setting') or 'not said'}.",
        *(f"{line[0].upper()}{line[1:]}." for line in unchecked(probe)),
        *(f"{words[0].upper()}{words[1:]}: {sentence}." for words, sentence in told.items()),
        *([f"Not attacked: {'; '.join(absent)}."] if absent else []),
    ]
    return Table("Fresh attackers against a guess", _HEADER, tuple(rows), tuple(notes))


def _cells(part: Mapping[str, Any], best: Mapping[str, Any]) -> tuple[str, ...]:
    rows = part.get("rows")
    return (
        percent(best["accuracy"]),
        interval(best["ci95"]),
        percent(best["balanced_accuracy"]),
        best["name"].replace("_", " "),
        f"{count(rows)} pictures" if rows else MISSING,
    )
