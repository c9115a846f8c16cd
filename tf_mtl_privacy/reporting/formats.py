"""Figures as a reader wants to see them; a missing figure is a dash.

Lays out plain text: labels on the left, wrapped lines beside them.

Shows text on the terminal.
"""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

MISSING = "–"


def percent(rate: float | None, digits: int = 1) -> str:
    """A rate in [0, 1], or a difference of two, as `97.3 %`; what rounds to zero has no sign."""
    return MISSING if rate is None else f"{100 * rate:z.{digits}f} %"


def at_most(rate: float | None) -> str:
    """An upper end of a rate as `22.4 %`, rounded up: a smaller figure would not be true."""
    # The product of a rate with few digits may lie a little above its own figure.
    return MISSING if rate is None else f"{math.ceil(1000 * rate - 1e-9) / 10:.1f} %"


def interval(ci95: list[float] | None) -> str:
    """A 95 % interval of a rate as `96.7–97.8 %`."""
    return MISSING if ci95 is None else f"{100 * ci95[0]:z.1f}–{100 * ci95[1]:z.1f} %"


def decibel(value: float | None) -> str:
    """A PSNR as `26.4 dB`."""
    return MISSING if value is None else f"{value:z.1f} dB"


def count(value: int | None) -> str:
    """A count as `4,000`."""
    return MISSING if value is None else f"{value:,}"


def duration(seconds: float | None) -> str:
    """A time as `48 s`, `4 min 5 s` or `2 h 3 min`."""
    if seconds is None:
        return MISSING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def metric(name: str, value: float | None) -> str:
    """A figure in the unit that its name tells: decibels for `psnr_db`, otherwise a rate."""
    return decibel(value) if name.endswith("_db") else percent(value)


def metric_name(name: str) -> str:
    """`gender_accuracy` -> `gender accuracy`, `psnr_db` -> `PSNR`; a part before `/` is dropped."""
    words = {
        "psnr_db": "PSNR",
        "privacy": "leakage to a fresh attacker",
        "privacy_balanced_accuracy": "its balanced accuracy",
        "membership": "membership inference",
    }
    name = name.rpartition("/")[2]
    return words.get(name, name.replace("_", " "))


def number(epsilon: float) -> str:
    """An epsilon with four digits, rounded up; `inf` where there is none."""
    if math.isinf(epsilon):
        return "inf"
    if epsilon == 0:
        return "0"
    digits = max(0, 3 - math.floor(math.log10(epsilon)))
    scale = 10.0**digits
    # Up, because a smaller number than what was computed would not be true.
    return f"{math.ceil(epsilon * scale * (1 - 1e-12)) / scale:.{digits}f}"


WIDTH = 96
LABEL = 24


def block(label: str, lines: Sequence[str]) -> list[str]:
    """Lines beside a label, wrapped at `WIDTH`; nothing where there are no lines."""
    if not lines:
        return []
    found = wrapped(lines, LABEL)
    return [label.ljust(LABEL) + found[0].lstrip(), *found[1:]]


def wrapped(lines: Sequence[str], indent: int) -> list[str]:
    """Lines of at most `WIDTH` columns, indented; what is wrapped is indented by two more."""
    result: list[str] = []
    for line in lines:
        result += textwrap.wrap(
            line,
            WIDTH,
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 2),
            break_on_hyphens=False,
        )
    return result


def fitted(text: str, width: int) -> str:
    """The text, cut with three dots where it is longer than `width`."""
    return text if len(text) <= width else text[: width - 3] + "..."


_PLAIN = str.maketrans({"─": "-", "–": "-", "≥": ">=", "≤": "<=", "·": "-"})


def show(text: str, stream: TextIO | None = None) -> None:
    """Prints `text`; on a terminal without Unicode, with plain characters instead of fine ones."""
    out = stream or sys.stdout
    encoding = out.encoding or "ascii"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(_PLAIN).encode(encoding, "replace").decode(encoding)
    print(text, file=out, flush=True)
