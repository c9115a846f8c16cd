"""Renders reports and blocks as Markdown; pictures are files beside the page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from tf_mtl_privacy.reporting.document import Block, Report

_SPECIAL = "\\`*_{}[]<>#|"


def report_markdown(report: Report, folder: str) -> str:
    """The page.

    Args:
        report: the report.
        folder: of its pictures, relative to the page.
    """
    lines = [f"# {_plain(report.title)}", "", _plain(report.subtitle), ""]
    lines += [f"**{_plain(warning)}**\n" for warning in report.warnings]
    tiles = [[*map(_plain, (t.title, t.value, t.note))] for t in report.tiles]
    lines += markdown_table(["", "", ""], tiles)
    lines += ["", "## Summary", "", " ".join(map(_plain, report.summary)), ""]
    for section in report.sections:
        lines += [f"## {_plain(section.title)}", "", render_markdown(section.blocks, folder)]
    return "\n".join(lines).rstrip() + "\n"


def render_markdown(blocks: Iterable[Block], folder: str = "") -> str:
    """Blocks as Markdown, each followed by an empty line."""
    return "".join("\n".join([*_KINDS[block.kind](block, folder), "", ""]) for block in blocks)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; bars inside cells are escaped."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def _plain(text: str) -> str:
    """Text in which no character is Markdown or HTML markup."""
    return "".join(f"\\{sign}" if sign in _SPECIAL else sign for sign in text)


def _paragraph(block: Any, folder: str) -> Iterator[str]:
    yield _plain(block.text)


def _notice(block: Any, folder: str) -> Iterator[str]:
    yield f"**{_plain(block.text)}**"


def _items(block: Any, folder: str) -> Iterator[str]:
    if block.heading:
        yield from (f"### {_plain(block.heading)}", "")
    yield from (f"- {_plain(item)}" for item in block.items)


def _fields(block: Any, folder: str) -> Iterator[str]:
    for name, texts in block.fields:
        if texts:
            yield f"- **{_plain(name)}**: {' '.join(map(_plain, texts))}"


def _code(block: Any, folder: str) -> Iterator[str]:
    yield from ("```", block.text.rstrip(), "```")


def _missing(block: Any, folder: str) -> Iterator[str]:
    yield _plain(block.text)
    if block.command:
        yield from ("", "```", block.command, "```")


def _table(block: Any, folder: str) -> Iterator[str]:
    if block.caption:
        yield from (f"**{_plain(block.caption)}**", "")
    rows: Sequence[Sequence[str]] = [[*map(_cell, row.cells)] for row in block.rows]
    yield from markdown_table([*map(_cell, block.header)], rows)
    for note in block.notes:
        yield from ("", _plain(note))


def _cell(text: str) -> str:
    # `markdown_table` escapes bars itself; Markdown drops leading blanks.
    marked = f"· {text.lstrip()}" if text.startswith(" ") else text
    return _plain(marked).replace("\\|", "|")


def _picture(block: Any, folder: str) -> Iterator[str]:
    yield from (f"![{_plain(block.alt)}]({folder}/{block.name}.png)", "", _plain(block.caption))


_KINDS: dict[str, Callable[[Any, str], Iterator[str]]] = {
    "paragraph": _paragraph,
    "notice": _notice,
    "items": _items,
    "fields": _fields,
    "code": _code,
    "missing": _missing,
    "table": _table,
    "picture": _picture,
}
