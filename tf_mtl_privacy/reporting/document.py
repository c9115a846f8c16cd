"""Document model of reports: sections of blocks, which each renderer writes in its own format.

The sections (`sections/`) build the blocks once; `render_text`, `render_html` and
`render_markdown` write them for the terminal, a browser and a page.
"""

from __future__ import annotations

import dataclasses
from typing import ClassVar


@dataclasses.dataclass(frozen=True)
class Paragraph:
    """Plain text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclasses.dataclass(frozen=True)
class Notice:
    """A paragraph that stands out, such as a warning."""

    kind: ClassVar[str] = "notice"
    text: str


@dataclasses.dataclass(frozen=True)
class Items:
    """A list of sentences under an optional heading."""

    kind: ClassVar[str] = "items"
    heading: str
    items: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Fields:
    """Labels, each with one or more lines beside it."""

    kind: ClassVar[str] = "fields"
    fields: tuple[tuple[str, tuple[str, ...]], ...]


@dataclasses.dataclass(frozen=True)
class Code:
    """Preformatted text: commands to copy, or the output of another program."""

    kind: ClassVar[str] = "code"
    text: str


@dataclasses.dataclass(frozen=True)
class Missing:
    """A part that the report lacks, with the reason and the command that produces it."""

    kind: ClassVar[str] = "missing"
    what: str
    command: str = ""
    why: str = ""

    @property
    def text(self) -> str:
        """The sentence; a command follows below it."""
        why = f" ({self.why})" if self.why else ""
        return f"Not available: {self.what}{why}." + (" To add it, run:" if self.command else "")


@dataclasses.dataclass(frozen=True)
class Row:
    """A table row named by its first cell; `own` highlights rows of the reported run."""

    cells: tuple[str, ...]
    own: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under a header with as many cells, and notes below."""

    kind: ClassVar[str] = "table"
    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Picture:
    """An image with a description that repeats its figures in words.

    Attributes:
        name: file name without the suffix.
        png: PNG content.
        alt: description for readers who cannot see the image; the text renderer prints it.
        caption: line below the image.
        wide: whether the image scrolls sideways on a narrow screen.
    """

    kind: ClassVar[str] = "picture"
    name: str
    png: bytes = dataclasses.field(repr=False)
    alt: str
    caption: str
    wide: bool = False


Block = Paragraph | Notice | Items | Fields | Code | Missing | Table | Picture


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and its blocks; `anchor` is the target of links."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclasses.dataclass(frozen=True)
class Tile:
    """One of the few headline figures."""

    title: str
    value: str
    note: str


@dataclasses.dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        title: of the page.
        subtitle: names the run.
        summary: sentences for a first reading.
        warnings: what the reader must know before any figure.
        tiles: the headline figures.
        sections: the rest.
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
