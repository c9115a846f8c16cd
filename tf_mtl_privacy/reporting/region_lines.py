"""What a run marks as sensitive in pictures, in a few lines for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.formats import count, percent


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
        lines.append(f"one guess for every picture instead: {_figures(regions['fixed'])}")
    return lines


def _figures(figures: Mapping[str, Any]) -> str:
    return (
        f"IoU {percent(figures['iou'])}, maximum inside {percent(figures['pointing'])}, "
        f"sum inside {percent(figures['energy'])}"
    )
