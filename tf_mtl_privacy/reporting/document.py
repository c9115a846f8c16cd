"""What a report is made of, before it is HTML or Markdown: sections of a few kinds of blocks."""

from __future__ import annotations

import dataclasses
from typing import ClassVar


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclasses.dataclass(frozen=True)
class Notice:
    """A paragraph that must not be overlooked."""

    kind: ClassVar[str] = "notice"
    text: str


@dataclasses.dataclass(frozen=True)
class Items:
    """A list of sentences under a heading of its own, which may be empty."""

    kind: ClassVar[str] = "items"
    heading: str
    items: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Missing:
    """What is not in the report, and the command that makes it, or why there is none."""

    kind: ClassVar[str] = "missing"
    what: str
    command: str = ""
    why: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of a table; its first cell names it. `own` marks what is of this run."""

    cells: tuple[str, ...]
    own: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under a header of as many cells, with notes below."""

    kind: ClassVar[str] = "table"
    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture with what it shows in words, figures included.

    Attributes:
        name: of its file, without the ending.
        png: its content.
        alt: what stands in its place for who cannot see it.
        caption: the line below it.
        wide: whether it is a sheet that is too wide for a phone.
    """

    kind: ClassVar[str] = "picture"
    name: str
    png: bytes = dataclasses.field(repr=False)
    alt: str
    caption: str
    wide: bool = False


Block = Text | Notice | Items | Missing | Table | Picture


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it. `anchor` is its name in links."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class Tile:
    """One of the few figures at the top."""

    title: str
    value: str
    note: str


@dataclasses.dataclass(frozen=True)
class Report:
    """The whole report.

    Attributes:
        title: of the page.
        subtitle: which run it is about.
        summary: sentences in plain words.
        warnings: what must be known before any figure is read.
        tiles: the headline.
        sections: everything else.
    """

    title: str
    subtitle: str
    summary: tuple[str, ...]
    warnings: tuple[str, ...]
    tiles: tuple[Tile, ...]
    sections: tuple[Section, ...]

    @property
    def pictures(self) -> list[Picture]:
        """All pictures, in order."""
        blocks = (block for section in self.sections for block in section.blocks)
        return [block for block in blocks if isinstance(block, Picture)]
