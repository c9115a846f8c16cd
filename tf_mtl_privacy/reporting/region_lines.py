"""What a run marks as sensitive in pictures, in a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.formats import count, percent

_FIGURES = {"iou": "IoU", "pointing": "maximum inside", "energy": "sum inside"}


def region_lines(regions: Mapping[str, Any]) -> list[str]:
    """Lines about `regions` of results.json; docs/results-schema.md."""
    if regions["source"] is None:
        return [f"none: {regions['reason']}"]
    whose = "covered by the mask" if regions["source"] == "mask" else "marked by the discriminator"
    marked = f"{percent(regions['area'])} of a picture {whose}"
    if regions["truth"] is None:
        # Without a mask there is no area either.
        lines = [marked] if regions["area"] is not None else []
        return [*lines, f"not scored: {regions['reason']}"]
    lines = [f"{marked}; true regions ({regions['truth']}): {percent(regions['true_area'])}"]
    if regions["covered"] is not None:
        lines.append(
            f"{percent(regions['covered'])} of the true region is covered (at least "
            f"{percent(regions['covered_p1'])} in 99 % of pictures)"
        )
    lines.append(f"{_figures(regions)}; {count(regions['n'])} pictures")
    if regions["fixed"]:
        fixed = _figures(regions["fixed"])
        lines += [f"a fixed template, the same for every face, instead: {fixed}", _winner(regions)]
    return lines


def _winner(regions: Mapping[str, Any]) -> str:
    """By which figures the run's map beats one that looks at nothing, and by which it does not."""
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
