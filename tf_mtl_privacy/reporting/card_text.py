"""The privacy card for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.formats import WIDTH, block, wrapped
from tf_mtl_privacy.reporting.privacy_lines import epsilon


def privacy_card_text(card: Mapping[str, Any]) -> str:
    """A card (`privacy_card.privacy_card`) as text, at most 96 columns wide but for commands."""
    rule = "─" * WIDTH
    released = [
        f"{part}: {'none' if value is None else epsilon(value)}"
        for part, value in card["released"].items()
    ]
    attacked = [f"{part['what']}: {part['finding']}" for part in card["attacked"]]
    blocks = [
        block("CONTRADICTED", card["contradictions"]),
        block("Released weights", [f"epsilon of {', '.join(released)}"] if released else []),
        block("What is claimed", card["claims"]),
        block("Who reads labels", card["readers"] or ["nobody beside the private updates"]),
        block("What was attacked", attacked or ["nothing"]),
        block("Not protected", card["not_protected"]),
    ]
    lines = [rule, *wrapped([card["summary"]], 0), rule]
    for part in blocks:
        lines += [*part, ""] if part else []
    if card["not_attacked"]:
        # Commands stay whole, however long, so that they can be copied.
        lines += ["Not attacked yet:"]
        lines += [f"  {part['what']}: {part['why']}" for part in card["not_attacked"]]
        lines.append("")
    return "\n".join([*lines[:-1], rule])
