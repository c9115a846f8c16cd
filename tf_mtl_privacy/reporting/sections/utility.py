"""Sections on utility: task accuracy, restored images, sensitive regions and their pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.evaluation.regions import DATA_REGIONS
from tf_mtl_privacy.evaluation.schema import Results
from tf_mtl_privacy.reporting.document import Block, Items, Missing, Notice, Picture, Row, Table
from tf_mtl_privacy.reporting.formats import count, decibel, interval, percent, sentence
from tf_mtl_privacy.reporting.privacy_card import private_name
from tf_mtl_privacy.reporting.runs import ReportRun, command

_SIGNIFICANCE = 0.01
_HEADER = ("task", "accuracy", "95 % interval", "balanced", "F1", "majority", "restored", "images")
# From this IoU of the template on, the regions do not differ between images.
_SAME_EVERYWHERE = 0.995
_FIGURES = {"iou": "IoU", "pointing": "pointing game", "energy": "energy inside"}
# Results written before there were region maps lack the part.
_NO_REGIONS = {"source": None, "reason": "this result predates region maps"}


def task_blocks(results: Results) -> Iterator[Block]:
    """Accuracy by task, on unseen people, on restored images and by subgroup."""
    restored: Mapping[str, Any] = results.get("utility_on_restored") or {}
    rows = []
    utility: Mapping[str, Any] = results["utility"]
    for task, figures in utility.items():
        names = ("balanced_accuracy", "f1", "majority")
        rows.append(
            Row(
                (
                    task,
                    percent(figures["accuracy"]),
                    interval(figures.get("ci95")),
                    *(percent(figures.get(name)) for name in names),
                    percent((restored.get(task) or {}).get("accuracy")),
                    count(figures.get("n")),
                )
            )
        )
    on = results.get("evaluated_on") or {}
    notes = [
        "Majority: accuracy of always predicting the most frequent class. Balanced: mean recall. "
        "F1: of the second class for two classes, otherwise the mean over classes."
        + (" Restored: accuracy on restored images, passed through the networks." * bool(restored)),
        *(f"Note: {note}" for note in (on.get("label_note"), *(on.get("notes") or ())) if note),
    ]
    yield Table("Task accuracy", _HEADER, tuple(rows), tuple(notes))
    facts = [
        *_unseen(results.get("utility_unseen_people") or {}),
        *_restoration(results["restoration"]),
        *_subgroups(results.get("subgroups") or {}),
    ]
    yield Items("", tuple(map(sentence, facts)))


def region_block(results: Results, heading: str = "") -> Items:
    """Sensitive regions in sentences."""
    return Items(heading, tuple(region_sentences(results.get("regions") or _NO_REGIONS)))


def picture_blocks(run: ReportRun) -> Iterator[Block]:
    """The sheets in the run folder.

    Synthetic faces always have them. Real people are shown on request only
    (`pictures.write_pictures`), with a warning.
    """
    results = run.results
    if not run.is_synthetic and (run.restored or run.regions):
        yield Notice("These images show real people: share this report only if they may be shared.")
    regions = results.get("regions") or _NO_REGIONS
    if run.restored:
        yield Picture(
            "restored",
            run.restored,
            "Test faces in the upper row, and below each the image restored from its features: "
            f"mean PSNR {decibel(results['restoration']['psnr_db'])}.",
            "Faces, and below each the image restored from its features.",
            wide=True,
        )
    else:
        yield _missing(run, "restored faces", "" if _has_restorer(run) else "no restorer")
    if run.regions:
        rows = ["faces", "sensitive regions (white outline: the true region, if known)"]
        rows += ["the encoder's input"] * (regions["source"] == "mask")
        rows += ["restored images"] * _has_restorer(run)
        yield Picture(
            "regions",
            run.regions,
            f"A sheet of test faces; rows from top to bottom: {'; '.join(rows)}. "
            f"{' '.join(region_sentences(regions))}",
            f"From top to bottom: {'; '.join(rows)}.",
            wide=True,
        )
    else:
        nothing = "" if regions["source"] or regions is _NO_REGIONS else "no marked region"
        yield _missing(run, f"regions that reveal {private_name(results)}", nothing)
    yield region_block(results, "Sensitive regions")


def region_sentences(regions: Mapping[str, Any]) -> list[str]:
    """Sentences on `regions` of results.json (docs/results-schema.md)."""
    if regions["source"] is None:
        return [f"Not available: {regions['reason']}."]
    verb = "covered by the mask" if regions["source"] == "mask" else "marked by the discriminator"
    marked = f"{percent(regions['area'])} of an image is {verb}"
    if regions["truth"] is None:
        # Without a mask there is no area either.
        lines = [f"{marked}."] if regions["area"] is not None else []
        return [*lines, f"Not scored: {regions['reason']}."]
    is_truth = regions["truth"] == DATA_REGIONS
    kind = "true regions" if is_truth else "reference regions, not ground truth"
    lines = [f"{marked}; {kind} ({regions['truth']}): {percent(regions['true_area'])}."]
    if regions["covered"] is not None:
        lines.append(
            f"{percent(regions['covered'])} of the {'true' if is_truth else 'reference'} region is "
            f"covered (at least {percent(regions['covered_p1'])} in 99 % of images)."
        )
    lines.append(f"{_figures(regions)}; {count(regions['n'])} images.")
    if regions["fixed"]:
        lines += _against_template(regions, is_truth=is_truth)
    return lines


def _unseen(utility: Mapping[str, Any]) -> Iterator[str]:
    """Accuracy on people without a training image, if there are any."""
    for task, figures in utility.items():
        if figures["accuracy"] is not None:
            yield (
                f"people not seen in training: {task} {percent(figures['accuracy'])} (95 % "
                f"interval {interval(figures['ci95'])}) on {count(figures['n'])} images"
            )


def restoration_text(restoration: Mapping[str, Any]) -> str:
    """PSNR and SSIM against the mean training image, or why there are none."""
    if restoration["psnr_db"] is None:
        return f"none, {restoration.get('reason') or 'no reason is given'}"
    mean = restoration.get("mean_image_psnr_db")
    against = (
        f"unknown, {restoration.get('mean_image_reason') or 'no reason is given'}"
        if mean is None
        else decibel(mean)
    )
    ssim = f", SSIM {restoration['ssim']:.3f}" if restoration.get("ssim") is not None else ""
    return f"PSNR {decibel(restoration['psnr_db'])}{ssim} (mean training image: {against})"


def _restoration(restoration: Mapping[str, Any]) -> list[str]:
    return [f"restored images: {restoration_text(restoration)}"]


def _subgroups(subgroups: Mapping[str, Any]) -> list[str]:
    """For each task the grouping with the largest significant difference in accuracy."""
    lines, compared = [], False
    for task, groupings in subgroups.items():
        tested = {
            name: group
            for name, group in groupings.items()
            if group["gap"] is not None and group["adjusted_p_value"] is not None
        }
        compared = compared or bool(tested)
        unequal = {n: g for n, g in tested.items() if g["adjusted_p_value"] < _SIGNIFICANCE}
        if unequal:
            name = max(unequal, key=lambda grouping: unequal[grouping]["gap"])
            low, high = unequal[name]["worst"], unequal[name]["best"]
            lines.append(
                f"unequal groups: {task} by {name.replace('_', ' ')}, {percent(low['accuracy'])} "
                f"for {low['group']}, {percent(high['accuracy'])} for {high['group']}"
            )
    if compared and not lines:
        test = f"chi-squared tests, Holm, p = {_SIGNIFICANCE}"
        lines = [f"unequal groups: no significant difference ({test})"]
    return lines


def _against_template(regions: Mapping[str, Any], *, is_truth: bool) -> list[str]:
    """Compares the map with a fixed template; the better one is named only against the truth."""
    fixed = f"A fixed template, the same for every face: {_figures(regions['fixed'])}"
    if regions["fixed"]["iou"] >= _SAME_EVERYWHERE:
        return [f"{fixed}; the regions are the same in every image, so no map can beat it."]
    if not is_truth:
        return [f"{fixed}; they are not ranked, because the label may be visible elsewhere."]
    return [f"{fixed}.", _winner(regions)]


def _winner(regions: Mapping[str, Any]) -> str:
    """Names the figures by which the map beats the template, and the others."""
    fixed, is_mask = regions["fixed"], regions["source"] == "mask"
    better = [words for name, words in _FIGURES.items() if regions[name] > fixed[name]]
    worse = [words for name, words in _FIGURES.items() if regions[name] < fixed[name]]
    told = [
        f"{words} in {', '.join(names)}"
        for words, names in (("better", better), ("WORSE", worse))
        if names
    ]
    margin = ""
    if is_mask and _FIGURES["iou"] in worse and regions["area"] > regions["true_area"] > 0:
        times = regions["area"] / regions["true_area"]
        margin = f" (with its margin, the mask covers {times:.1f} times the true region)"
    name = "The mask" if is_mask else "The discriminator's map"
    return f"{name} against the template: {'; '.join(told) or 'equal in all three'}{margin}."


def _figures(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{words} {percent(figures[name])}" for name, words in _FIGURES.items())


def _has_restorer(run: ReportRun) -> bool:
    return run.results["restoration"]["psnr_db"] is not None


def _missing(run: ReportRun, what: str, nothing: str) -> Missing:
    if nothing:
        return Missing(what, why=f"{nothing} in this model")
    if run.is_synthetic:
        return Missing(what, command("evaluate", run.quoted))
    return Missing(what, why="images of real people are written only with train --log_images")
