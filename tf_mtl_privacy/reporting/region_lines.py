"""Writes what a run marks as sensitive in pictures as a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.evaluation.regions import DATA_REGIONS
from tf_mtl_privacy.reporting.formats import count, percent

# A template that fits every picture this well says that the regions do not differ.
_SAME_EVERYWHERE = 0.995
_FIGURES = {"iou": "IoU", "pointing": "maximum inside", "energy": "sum inside"}


def region_lines(regions: Mapping[str, Any]) -> list[str]:
    """Writes lines about `regions` of results.json; docs/results-schema.md."""
    if regions["source"] is None:
        return [f"none: {regions['reason']}"]
    whose = "covered by the mask" if regions["source"] == "mask" else "marked by the discriminator"
    marked = f"{percent(regions['area'])} of a picture {whose}"
    if regions["truth"] is None:
        # Without a mask there is no area either.
        lines = [marked] if regions["area"] is not None else []
        return [*lines, f"not scored: {regions['reason']}"]
    is_truth = regions["truth"] == DATA_REGIONS
    kind = "true regions" if is_truth else "reference regions, not the truth"
    lines = [f"{marked}; {kind} ({regions['truth']}): {percent(regions['true_area'])}"]
    if regions["covered"] is not None:
        lines.append(
            f"{percent(regions['covered'])} of the {'true' if is_truth else 'reference'} region is "
            f"covered (at least {percent(regions['covered_p1'])} in 99 % of pictures)"
        )
    lines.append(f"{_figures(regions)}; {count(regions['n'])} pictures")
    if regions["fixed"]:
        lines += _against_template(regions, is_truth=is_truth)
    return lines


def _against_template(regions: Mapping[str, Any], *, is_truth: bool) -> list[str]:
    """Compares the map with a template, and says which is better only where the truth is known."""
    fixed = f"a fixed template, the same for every face, instead: {_figures(regions['fixed'])}"
    if regions["fixed"]["iou"] >= _SAME_EVERYWHERE:
        same = "the regions are the same in every picture, so a template cannot be beaten"
        return [f"{fixed}; {same}"]
    if not is_truth:
        why = "the label may be read elsewhere, so neither is called better"
        return [f"{fixed}; {why}"]
    return [fixed, _winner(regions)]


def _winner(regions: Mapping[str, Any]) -> str:
    """Names the figures by which the run's map beats the template, and the others."""
    fixed, is_mask = regions["fixed"], regions["source"] == "mask"
    better = [words for name, words in _FIGURES.items() if regions[name] > fixed[name]]
    worse = [words for name, words in _FIGURES.items() if regions[name] < fixed[name]]
    told = [
        f"{words}: {', '.join(names)}"
        for words, names in (
            ("better", better),
            ("WORSE", worse),
        )
        if names
    ]
    margin = ""
    if is_mask and _FIGURES["iou"] in worse and regions["area"] > regions["true_area"] > 0:
        times = regions["area"] / regions["true_area"]
        margin = f" (the mask covers {times:.1f} times the true region: its margin counts)"
    whose = "the mask" if is_mask else "the discriminator's map"
    return f"{whose} against the template: {'; '.join(told) or 'alike in all three'}{margin}"


def _figures(figures: Mapping[str, Any]) -> str:
    return ", ".join(f"{words} {percent(figures[name])}" for name, words in _FIGURES.items())
