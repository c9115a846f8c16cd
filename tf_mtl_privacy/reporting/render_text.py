"""Renders blocks, sections and reports as plain text for the terminal."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tf_mtl_privacy.reporting.document import Block, Fields, Paragraph, Report, Section

WIDTH, NARROWEST = 100, 60
_LABEL = 22
_GAP = 2
_LEAST_COLUMN = 8
# A column of such cells is aligned to the right; longer ones are sentences.
_FIGURE = re.compile(r"[-+≤≥!–\d].{0,39}|none|inf|void|not .*|")
_NO_BREAK, _UNIT = "\u00a0", re.compile(r"(?<=\d) (?=(?:%|dB|s|min|h)\b|%)")


def terminal_width() -> int:
    """Columns of the terminal, between `NARROWEST` and `WIDTH`."""
    return max(NARROWEST, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns))


def render_text(content: Report | Iterable[Section | Block], width: int = WIDTH) -> str:
    """Renders a report, or a sequence of sections and blocks.

    Args:
        content: what to render.
        width: columns; only commands and paths may be longer, so that they can be copied.
    """
    if isinstance(content, Report):
        content = _of_report(content)
    parts: list[list[str]] = []
    for part in content:
        if isinstance(part, Section):
            parts.append([part.title, "─" * width])
            parts += [_KINDS[block.kind](block, width) for block in part.blocks]
        else:
            parts.append(_KINDS[part.kind](part, width))
    lines: list[str] = []
    for found in filter(None, parts):
        # A heading and its first block belong together.
        under = len(lines) > 1 and lines[-1].startswith("─")
        lines += [*([] if under or not lines else [""]), *found]
    return "\n".join(line.rstrip() for line in lines)


def wrapped(text: str, width: int, indent: int = 0, hanging: int = 2) -> list[str]:
    """Lines of at most `width` columns; long words such as paths are not broken."""
    first, others = " " * indent, " " * (indent + hanging)
    return _wrap(text, width, first, others)


def whole(command: str) -> str:
    """A command that wrapping leaves on one line, so that it can be copied."""
    return command.replace(" ", _NO_BREAK)


def _wrap(text: str, width: int, first: str = "", others: str = "") -> list[str]:
    """Wraps text; a unit stays with its number."""
    wrapper = textwrap.TextWrapper(
        width,
        initial_indent=first,
        subsequent_indent=others,
        break_on_hyphens=False,
        break_long_words=False,
    )
    lines = wrapper.wrap(_UNIT.sub(_NO_BREAK, text))
    return [line.replace(_NO_BREAK, " ") for line in lines]


def cut(text: str, width: int, lines: int) -> str:
    """Shortens text at a word so that it fits on so many lines of a `Fields` block."""
    room = width - _LABEL - 2
    found = wrapped(text, room, hanging=0)
    if len(found) <= lines:
        return text
    shown, limit = " ".join(found[:lines]), room * lines - 6
    if len(shown) > limit:
        shown = shown[: limit + 1].rpartition(" ")[0]
    return shown.rstrip(" ;:,.") + " ..."


def _of_report(report: Report) -> list[Section | Block]:
    tiles = tuple((tile.title, (f"{tile.value} ({tile.note})",)) for tile in report.tiles)
    return [
        Section(
            "top",
            f"{report.title}: {report.subtitle}",
            (
                *(Paragraph(f"WARNING: {text}") for text in report.warnings),
                Fields(tiles),
                *map(Paragraph, report.summary),
            ),
        ),
        *report.sections,
    ]


def _paragraph(block: Any, width: int) -> list[str]:
    return wrapped(block.text, width, hanging=0)


def _items(block: Any, width: int) -> list[str]:
    lines = [f"{block.heading}:"] if block.heading else []
    return lines + [line for item in block.items for line in wrapped(f"- {item}", width)]


def _fields(block: Fields, width: int) -> list[str]:
    longest = max((len(name) for name, _ in block.fields), default=0) + _GAP
    label = longest if longest <= 2 * width // 5 else _LABEL
    lines: list[str] = []
    for name, texts in block.fields:
        found = [line for text in texts for line in wrapped(text, width, label)]
        if not found:
            continue
        if len(name) < label:
            found[0] = name.ljust(label) + found[0][label:]
        else:
            found = [name, *found]
        lines += found
    return lines


def _code(block: Any, width: int) -> list[str]:
    return [f"  {line}" for line in block.text.rstrip().splitlines()]


def _missing(block: Any, width: int) -> list[str]:
    return [*wrapped(block.text, width), *([f"  {block.command}"] if block.command else [])]


def _picture(block: Any, width: int) -> list[str]:
    return wrapped(block.alt, width, hanging=0)


def _table(block: Any, width: int) -> list[str]:
    rows = [block.header, *(row.cells for row in block.rows)]
    widths = _widths(rows, width)
    lines = wrapped(f"{block.caption}:", width) if block.caption else []
    if widths is None:
        lines += _records(block, width)
    else:
        cells = zip(*(row.cells for row in block.rows), strict=True)
        right = [all(map(_FIGURE.fullmatch, column)) for column in cells] or [False] * len(widths)
        for number, row in enumerate(rows):
            lines += _row(row, widths, right)
            lines += ["─" * (sum(widths) + _GAP * (len(widths) - 1))] if number == 0 else []
    return lines + [line for note in block.notes for line in wrapped(note, width)]


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int] | None:
    """Column widths that fit, the widest columns narrowed first; None where none do."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    words = [
        max(len(word) for cell in column for word in [*_UNIT.sub(_NO_BREAK, cell).split(" "), ""])
        for column in columns
    ]
    least = [min(w, max(_LEAST_COLUMN, word)) for w, word in zip(widths, words, strict=True)]
    room = width - _GAP * (len(widths) - 1)
    if sum(least) > room:
        return None
    while sum(widths) > room:
        widest = max(
            (k for k in range(len(widths)) if widths[k] > least[k]), key=widths.__getitem__
        )
        widths[widest] -= 1
    return widths


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> list[str]:
    parts = [_wrap(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)]
    # Leading blanks mark a row that belongs to the one above; wrapping drops them.
    parts[0][0] = cells[0][: len(cells[0]) - len(cells[0].lstrip())] + parts[0][0]
    lines = []
    for number in range(max(map(len, parts))):
        cut = [part[number] if number < len(part) else "" for part in parts]
        lines.append(
            (" " * _GAP).join(
                text.rjust(w) if is_right and k else text.ljust(w)
                for k, (text, w, is_right) in enumerate(zip(cut, widths, right, strict=True))
            )
        )
    return lines


def _records(block: Any, width: int) -> list[str]:
    """A table that is too wide for columns: each row as a name and labelled values."""
    lines: list[str] = []
    for row in block.rows:
        lines += wrapped(row.cells[0], width)
        for name, cell in zip(block.header[1:], row.cells[1:], strict=True):
            lines += wrapped(f"{name}: {cell}" if name else cell, width, 2)
    return lines


_KINDS: dict[str, Callable[[Any, int], list[str]]] = {
    "paragraph": _paragraph,
    "notice": _paragraph,
    "items": _items,
    "fields": _fields,
    "code": _code,
    "missing": _missing,
    "table": _table,
    "picture": _picture,
}
