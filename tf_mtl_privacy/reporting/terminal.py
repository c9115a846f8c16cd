"""Shows text on the terminal."""

from __future__ import annotations

import sys
from typing import TextIO

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
