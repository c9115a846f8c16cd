"""Lays out plain text: labels on the left, wrapped lines beside them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

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
