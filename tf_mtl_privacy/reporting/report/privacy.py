"""The privacy card as a section, and epsilon over steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.reporting.epsilon_plot import epsilon_chart
from tf_mtl_privacy.reporting.formats import count
from tf_mtl_privacy.reporting.privacy_lines import epsilon, is_conditional, meaning
from tf_mtl_privacy.reporting.report.document import (
    Block,
    Items,
    Missing,
    Notice,
    Picture,
    Row,
    Table,
    Text,
)
from tf_mtl_privacy.reporting.report.epsilon_steps import epsilon_over_steps, spans, why_not


def card_blocks(card: Mapping[str, Any]) -> Iterator[Block]:
    """A privacy card; see `privacy_card.privacy_card`."""
    for sentence in card["contradictions"]:
        yield Notice(f"Contradicted by the audit: {sentence}")
    yield Text(card["summary"])
    if card["released"]:
        yield _released(card)
    yield Items("What is claimed", tuple(card["claims"]))
    readers = card["readers"] or ["nobody: no private label is read beside the private updates"]
    yield Items("Who else reads private labels", tuple(readers))
    if card["attacked"]:
        rows = tuple(Row((part["what"], part["finding"])) for part in card["attacked"])
        yield Table("What was attacked, and what it found", ("attacked", "found"), rows)
    for part in card["not_attacked"]:
        yield _not_attacked(part)
    yield Items("What is not protected", tuple(card["not_protected"]))


def _not_attacked(part: Mapping[str, str]) -> Missing:
    what = part["what"]
    why, _, line = part["why"].rpartition("; ")
    if line.startswith("python -m "):
        return Missing(what, line, why)
    return Missing(what, why=part["why"])


def _released(card: Mapping[str, Any]) -> Table:
    covered = card["delta"] is not None
    rows = [
        Row(
            (
                part,
                "none" if value is None else epsilon(value),
                *(("–",) * 4 if value is None else _terms(card)),
            )
        )
        for part, value in card["released"].items()
    ]
    if covered and card["conditional"] is not None:
        value = epsilon(card["conditional"])
        rows.append(
            Row(
                (
                    "no weights: the discriminator's updates, given the encoder's course; no "
                    "released weight has it",
                    f"conditional {value}",
                    *_terms(card),
                )
            )
        )
    return Table(
        "Which released weights carry which epsilon",
        ("weights", "epsilon", "delta", "neighbouring data", "sampling", "unit"),
        tuple(rows),
    )


def _terms(card: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        f"{card['delta']:g}",
        *(meaning(card[name]) for name in ("adjacency", "sampling", "unit")),
    )


def epsilon_blocks(dp: Mapping[str, Any]) -> Iterator[Block]:
    """Epsilon over steps; the `dp` part of results.json."""
    if why := why_not(dp):
        yield Missing("Epsilon over steps", why=why)
        return
    points, stretches = epsilon_over_steps(dp), spans(dp)
    targets = [budget["target_epsilon"] for budget in dp["budgets"]]
    target = targets[0] if len(targets) == 1 else None
    last = points[-1]
    whose = (
        "the discriminator's updates, given the encoder's course"
        if is_conditional(dp)
        else "all released weights"
    )
    word = "conditional " if is_conditional(dp) else ""
    told = "; ".join(
        f"{word}{epsilon(point.epsilon_pld)} after {count(point.steps)} steps"
        for point in points
        if point.steps in {end for _, _, end in stretches}
    )
    yield Picture(
        "epsilon",
        epsilon_chart(points, dp["delta"], "", stretches, target),
        f"Curves of {word}epsilon over private steps, of {whose}, by PLD: {told}; by RDP at the "
        f"end {word}{epsilon(last.epsilon_rdp)}.",
        f"{(word + 'epsilon').capitalize()} over private steps, of {whose}, at delta "
        f"{dp['delta']:g}.",
    )
    if dp["epsilon_pld"] != dp["as_run"]["epsilon_pld"]:
        yield Text(
            f"The curve is of the updates that ran. What is claimed is the plan's, "
            f"{word}{epsilon(dp['epsilon_pld'])}, because a phase ended where the data said so."
        )
