"""The results of a run as one plain-text table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tf_mtl_privacy.reporting.attacker_lines import attacker_lines
from tf_mtl_privacy.reporting.formats import (
    LABEL,
    WIDTH,
    block,
    count,
    decibel,
    fitted,
    interval,
    percent,
    wrapped,
)
from tf_mtl_privacy.reporting.privacy_lines import dp_lines
from tf_mtl_privacy.reporting.reconcile_probes import leakage
from tf_mtl_privacy.reporting.region_lines import region_lines
from tf_mtl_privacy.reporting.training_lines import gate_lines, stop_lines, training_lines

_TASK_COLUMNS = ("accuracy", "95 % interval", "balanced", "F1", "majority", "restored", "rows")
_TASK_WIDTHS = (10, 16, 10, 9, 10, 10, 7)
_UNLIKELY = 0.01


def results_table(results: Mapping[str, Any], files: Mapping[str, str] | None = None) -> str:
    """The content of results.json, at most 100 columns wide.

    Args:
        results: as `reporting.results.build_results` makes it.
        files: path -> what is in it, listed at the end.
    """
    rule = "─" * WIDTH
    blocks = [
        block("People not seen", _unseen(results["utility_unseen_people"])),
        block("Restored images", _restoration(results["restoration"])),
        block("Fresh attackers", attacker_lines(results["privacy"], leakage(results))),
        block("In-loop discriminator", _discriminator(results["privacy"])),
        block("Sensitive regions", region_lines(results["regions"])),
        block("Unequal groups", _subgroups(results["subgroups"])),
        block("Training", training_lines(results["training"])),
        block("Gates (validation)", gate_lines(results["gates"])),
        block("Stop rule (validation)", stop_lines(results)),
        block("Differential privacy", dp_lines(results["dp"])),
        file_lines(files or {}),
    ]
    lines = [rule, *_title(results), rule, *_tasks(results), rule]
    for lines_of_block in blocks:
        lines += [*lines_of_block, ""] if lines_of_block else []
    return "\n".join([*lines[:-1], rule])


def _title(results: Mapping[str, Any]) -> list[str]:
    on = results["evaluated_on"]
    evaluated = count(results["counts"]["evaluated"])
    notes = [on["label_note"]] if on["label_note"] else []
    text = f"{results['model']} on {on['dataset']}: {evaluated} {on['split']} rows"
    return [text, *wrapped([f"Note: {note}" for note in [*notes, *on["notes"]]], 0)]


def _tasks(results: Mapping[str, Any]) -> list[str]:
    restored = results["utility_on_restored"] or {}
    lines = [_row("Task", _TASK_COLUMNS)]
    for task, figures in results["utility"].items():
        cells = [percent(figures["accuracy"]), interval(figures["ci95"])]
        cells += [percent(figures[name]) for name in ("balanced_accuracy", "f1", "majority")]
        cells += [percent(restored.get(task, {}).get("accuracy")), count(figures["n"])]
        lines.append(_row(task, cells))
    legend = [
        "balanced: mean recall of the classes; F1: of the second of two classes, else mean of all",
        "majority: always guessing the most frequent class",
    ]
    if restored:
        legend.append("restored: accuracy on restored images, put through the networks again")
    return [*lines, "", *wrapped(legend, 0)]


def _row(label: str, cells: Sequence[str]) -> str:
    padded = (cell.rjust(width) for cell, width in zip(cells, _TASK_WIDTHS, strict=True))
    return fitted(label, LABEL - 1).ljust(LABEL) + "".join(padded)


def _unseen(utility: Mapping[str, Any]) -> list[str]:
    """Figures of people without a training row; nothing where there are none."""
    return [
        f"{task} {percent(figures['accuracy'])} (95 % interval {interval(figures['ci95'])}) on "
        f"{count(figures['n'])} rows of new people"
        for task, figures in utility.items()
        if figures["accuracy"] is not None
    ]


def _restoration(restoration: Mapping[str, Any]) -> list[str]:
    if restoration["psnr_db"] is None:
        return [f"none: {restoration['reason']}"]
    mean = restoration["mean_image_psnr_db"]
    against = (
        f"not known: {restoration['mean_image_reason']}"
        if mean is None
        else f"PSNR {decibel(mean)}"
    )
    figures = f"PSNR {decibel(restoration['psnr_db'])}, SSIM {restoration['ssim']:.3f}"
    return [figures, f"the training rows' mean image instead: {against}"]


def _discriminator(privacy: Mapping[str, Any]) -> list[str]:
    figures = privacy["discriminator"]
    if figures is None:
        return [f"none: {privacy['reason']}"]
    references = f"chance {percent(privacy['chance'])}, majority {percent(privacy['majority'])}"
    if figures["accuracy"] is None:
        return [f"not measured: {figures['reason']} ({references})"]
    return [
        f"accuracy {percent(figures['accuracy'])} (95 % interval {interval(figures['ci95'])}), "
        f"balanced {percent(figures['balanced_accuracy'])}",
        f"{references}; {count(figures['n'])} rows, {privacy['classes']} classes",
        "This is not the leakage: a fresh attacker may read far more.",
    ]


def _subgroups(subgroups: Mapping[str, Any]) -> list[str]:
    """Per task the grouping in which accuracy differs most, where that is more than chance."""
    lines = []
    compared = False
    for task, groupings in subgroups.items():
        known = {name: group for name, group in groupings.items() if group["gap"] is not None}
        tested = {n: g for n, g in known.items() if g["adjusted_p_value"] is not None}
        compared = compared or bool(tested)
        unequal = {n: g for n, g in tested.items() if g["adjusted_p_value"] < _UNLIKELY}
        if unequal:
            name = max(unequal, key=lambda grouping: unequal[grouping]["gap"])
            low, high = unequal[name]["worst"], unequal[name]["best"]
            lines.append(
                f"{task} by {name.replace('_', ' ')}: {percent(low['accuracy'])} for "
                f"{low['group']}, {percent(high['accuracy'])} for {high['group']}"
            )
    if compared and not lines:
        lines = [f"none: no difference beyond chance (chi-squared tests, Holm, p = {_UNLIKELY})"]
    return lines


def file_lines(files: Mapping[str, str]) -> list[str]:
    """Files that were written: path -> what is in it."""
    width = max(map(len, files), default=0)
    # Paths stay whole, however long, so that they can be copied.
    lines = [f"  {path:<{width}}  {what}" for path, what in files.items()]
    short = all(len(line) <= WIDTH for line in lines)
    if not short:
        lines = [line for path, what in files.items() for line in (f"  {path}", f"    {what}")]
    return ["Files", *lines] if lines else []
