"""Section on leakage of the private label: fresh attackers against chance, discriminator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.evaluation.probes.bounds import OPEN
from tf_mtl_privacy.evaluation.schema import Results
from tf_mtl_privacy.reporting.charts import Read, probe_chart
from tf_mtl_privacy.reporting.document import (
    Block,
    Items,
    Missing,
    Notice,
    Paragraph,
    Picture,
    Row,
    Table,
)
from tf_mtl_privacy.reporting.formats import (
    MISSING,
    at_most,
    count,
    interval,
    percent,
    reworded,
    sentence,
)
from tf_mtl_privacy.reporting.privacy_card import private_name
from tf_mtl_privacy.reporting.reconcile_probes import (
    RELEASED,
    TARGETS,
    entry,
    headline_text,
    released_leakage,
)
from tf_mtl_privacy.reporting.runs import command

_OTHERS = {
    "planted": "a planted leak (must be found)",
    "removal_off": "features of the baseline run without removal",
}
_NAMES = {**TARGETS, **_OTHERS}
_KINDS = {
    "own": "by attackers trained on the encoder's training images",
    "unseen": "by attackers trained on unseen images",
}
_HEADER = ("target", "accuracy", "upper bound", "balanced", "attacker", "trained on", "source")
_NOT_CHECKED = {
    "pixels": "pixels",
    "planted": "a planted leak",
    "removal_off": "a run without removal (--baseline_run)",
    "patience": "longer training of the attackers (--probe=thorough)",
}


def attacker_blocks(
    results: Results,
    found: Mapping[str, Any] | None,
    run_dir: str,
    *,
    chart: bool = True,
) -> Iterator[Block]:
    """Builds the blocks on the leakage of the private label.

    Args:
        results: content of results.json.
        found: its leakage (`reconcile_probes.leakage`), or None.
        run_dir: quoted folder of the run, for commands.
        chart: whether to draw the accuracies.
    """
    privacy = results["privacy"]
    evaluate = command("evaluate", run_dir, "--probe=fast")
    if not privacy.get("classes", 1):
        yield Paragraph("This data has no private label.")
        return
    measured = [n for n in _NAMES if entry(found, n)["accuracy"] is not None]
    if found is None or not found["setting"] or not measured:
        yield Missing("fresh attackers", evaluate, "no claim is made without them")
    if found is not None and measured:
        yield Paragraph(
            f"Fresh attackers are trained to recover {private_name(results)} from the outputs of "
            "the frozen networks. Each target shows the highest accuracy of any attacker on these "
            "weights, over all settings, the audit and the check during training."
        )
        text = " ".join(claim_sentences(found))
        yield Paragraph(text) if found["claim"] else Notice(text)
        if chart:
            yield _chart(results, found)
    if found is not None:
        table = _table(results, found)
        yield table if table.rows else Items("", table.notes)
    if measured and entry(found, "removal_off")["accuracy"] is None:
        yield Missing(
            "the comparison with a baseline run without removal, which shows the attackers' power",
            f"{evaluate} --baseline_run=OTHER_RUN_DIR",
        )
    yield Items("", (_discriminator(privacy),))


def claim_sentences(found: Mapping[str, Any]) -> list[str]:
    """The bound claimed on the attackers' accuracy, or the reasons why there is none."""
    claim, worst = found["claim"], found["worst"]
    if claim:
        covers = (
            "holds jointly for all attackers tried"
            if claim["all_attackers"]
            else "is the largest of the attackers' own intervals, not corrected for their number"
        )
        return [
            f"Claim: the accuracy of these attackers is at most {at_most(claim['upper'])} (from "
            f"{TARGETS[claim['target']]}; highest measured accuracy {percent(worst['accuracy'])}). "
            f"The bound {covers}, at {percent(claim['level'], 0)} confidence."
        ]
    if not found["refused"]:
        return []
    first, *others = found["refused"]
    weak = " (underpowered attackers)" if found["underpowered"] else ""
    return [
        f"NO BOUND CLAIMED{weak}: {reworded(first).rstrip('.')}.",
        *(f"Also: {reworded(reason).rstrip('.')}." for reason in others),
    ]


def unchecked(found: Mapping[str, Any]) -> list[str]:
    """A sentence on the power checks that are missing, or nothing."""
    missing = list(found["not_checked"])
    if missing == ["removal_off"]:
        # Pixels and the planted leak have shown the power; this one needs a second run.
        return ["Not compared with a baseline run without removal (--baseline_run=OTHER_RUN_DIR)."]
    names = "; ".join(_NOT_CHECKED.get(name, name) for name in missing)
    return [f"Power checks not run: {names}."] if names else []


def leakage_line(results: Results, found: Mapping[str, Any]) -> str:
    """The highest leakage in short, against chance."""
    privacy = results["privacy"]
    return f"{headline_text(found)}; chance {percent(privacy.get('chance'))}"


def _discriminator(privacy: Mapping[str, Any]) -> str:
    figures = privacy.get("discriminator")
    name = "In-loop discriminator (not the leakage; fresh attackers may do far better)"
    if figures is None:
        return f"{name}: none, {privacy.get('reason') or 'no reason is given'}."
    references = f"chance {percent(privacy['chance'])}, majority {percent(privacy['majority'])}"
    if figures["accuracy"] is None:
        return f"{name}: not measured, {figures['reason']} ({references})."
    return (
        f"{name}: accuracy {percent(figures['accuracy'])} (95 % interval "
        f"{interval(figures['ci95'])}), balanced {percent(figures['balanced_accuracy'])}; "
        f"{references}; {count(figures['n'])} rows, {privacy['classes']} classes."
    )


def _chart(results: Results, found: Mapping[str, Any]) -> Picture:
    privacy, reads = results["privacy"], []
    for name in ("removal_off", *TARGETS):
        figures = entry(found, name)
        if figures["accuracy"] is not None:
            words = {**TARGETS, "removal_off": "features, no removal"}[name]
            ends = figures["accuracy"], figures["upper"]
            reads.append(Read(words, figures["accuracy"], ends, name in RELEASED))
    # References above, released targets below.
    reads.sort(key=lambda read: (read.given, -read.accuracy))
    told = "; ".join(
        f"{read.words} {percent(read.accuracy)} (upper bound {at_most(read.ends[1])})"
        for read in reads
    )
    return Picture(
        "attackers",
        probe_chart(reads, privacy["chance"] or 0.0, privacy.get("majority")),
        f"Bar chart of attacker accuracy: {told}. Chance: {percent(privacy['chance'])}.",
        "Accuracy of fresh attackers (blue: released by the run; grey: for comparison). Whiskers "
        "end at the upper bound; the dashed line is chance.",
    )


def _table(results: Results, found: Mapping[str, Any]) -> Table:
    worst_first = [words for words, _ in released_leakage(found)]
    names = sorted(
        _NAMES,
        key=lambda n: worst_first.index(TARGETS[n]) if TARGETS.get(n) in worst_first else 99,
    )
    rows, absent, trends = [], [], []
    for name in names:
        figures, words = entry(found, name), _NAMES[name]
        if figures["accuracy"] is not None:
            rows.append(Row((words, *_cells(figures)), own=name in RELEASED))
            rows += _by_rows(figures)
            if figures.get("trend") in OPEN and name in RELEASED:
                told = figures["trend_words"] or f"{figures['trend']} with more training rows"
                trends.append(f"{sentence(words)[:-1]}: {told}.")
        elif name in found and name != "removal_off":
            absent.append(f"{words} ({figures['reason']})")
    privacy = results["privacy"]
    before = found["before_game"]
    notes = [
        f"Chance is {percent(privacy['chance'])}, the majority baseline "
        f"{percent(privacy.get('majority'))}. Attacker setting: {found.get('setting') or 'none'}. "
        "Accuracy is the larger of plain and balanced accuracy.",
        *(
            [f"Before adversarial training: {before_game_text(before)}."]
            if before is not None
            else []
        ),
        *(sentence(reworded(text)) for text in (*found["told"], *trends)),
        *_power(found),
        *([f"Not measured: {'; '.join(absent)}."] if absent else []),
    ]
    return Table("Fresh attackers against chance", _HEADER, tuple(rows), tuple(notes))


def before_game_text(before: float) -> str:
    """The leakage of the features before the joint phase; a balanced accuracy."""
    return f"{percent(before)} from features (balanced, validation images, quick attacker, no mask)"


def _power(found: Mapping[str, Any]) -> Iterator[str]:
    """Sentences on the power of the attackers: their accuracy on targets that contain the label."""
    shown = [
        f"{_NOT_CHECKED[name]} ({percent(entry(found, name)['accuracy'])})"
        for name in ("pixels", "planted")
        if entry(found, name)["accuracy"] is not None
    ]
    if shown and not found["underpowered"]:
        yield f"Power check: the attackers succeed on {' and '.join(shown)}."
    yield from unchecked(found)


def _by_rows(figures: Mapping[str, Any]) -> list[Row]:
    """A row for each kind of training rows of the attackers, if there are several."""
    if len(figures["by_rows"]) < 2:
        return []
    return [
        Row(
            (
                f"  {_KINDS.get(kind, kind)}",
                percent(part["accuracy"]),
                at_most(part["upper"]),
                MISSING,
                MISSING,
                _images(part, kind),
                MISSING,
            )
        )
        for kind, part in figures["by_rows"].items()
    ]


def _cells(figures: Mapping[str, Any]) -> tuple[str, ...]:
    other = figures.get("upper_source")
    also = f"; upper bound: {other}" if other not in (None, figures["source"]) else ""
    return (
        percent(figures["accuracy"]),
        at_most(figures["upper"]),
        percent(figures["balanced_accuracy"]),
        figures["attacker"].replace("_", " "),
        _images(figures, figures.get("trained_on")),
        reworded(figures["source"] + also),
    )


def _images(figures: Mapping[str, Any], kind: str | None) -> str:
    kinds = {"own": "own images", "unseen": "unseen images"}
    rows = figures.get("rows")
    return f"{count(rows)} {kinds.get(kind or '', 'images')}" if rows else MISSING
