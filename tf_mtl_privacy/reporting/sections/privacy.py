"""The privacy card as a section, and epsilon over steps.

Epsilon of a run's private updates as they went on, out of its results alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.privacy.accounting.epsilon import SEARCH
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon as composed_epsilon
from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.accounting.statements import Point
from tf_mtl_privacy.reporting.charts import epsilon_chart
from tf_mtl_privacy.reporting.document import (
    Block,
    Items,
    Missing,
    Notice,
    Picture,
    Row,
    Table,
    Text,
)
from tf_mtl_privacy.reporting.formats import count
from tf_mtl_privacy.reporting.privacy_lines import epsilon, is_conditional, meaning

_JOINT = "adversarial_"
_POINTS = 4


def why_not(dp: Mapping[str, Any]) -> str:
    """Why there is no epsilon to draw; empty where there is."""
    if dp.get("scope") is None or dp.get("epsilon_pld") is None:
        return str(dp.get("reason") or "no update was private")
    if any(part["sampling"] != POISSON for part in dp["phases"].values()):
        return "batches were shuffled epochs, for which epsilon grows by whole epochs, not by steps"
    return ""


def spans(dp: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(name, first step, last step) of each stretch of the run in which updates are private.

    The updates of the joint phase are made side by side: its stretch is as long as the longest.
    """
    found, at = [], 0
    for names in _stretches(dp):
        length = max(dp["phases"][name]["steps"] for name in names)
        if length:
            title = "joint phase" if names[0].startswith(_JOINT) else names[0]
            found.append((title, at, at + length))
            at += length
    return found


def epsilon_over_steps(dp: Mapping[str, Any], points: int = _POINTS) -> list[Point]:
    """Epsilon after parts of the run, in the order of its phases.

    The last point is that of all counted updates, as in the results; those before it are up to
    0.5 % above the exact epsilon.

    Args:
        dp: the `dp` part of results.json, of a run with Poisson batches and an epsilon.
        points: how many points each stretch has.
    """
    found: list[Point] = []
    done: list[MechanismRun] = []
    at, delta = 0, dp["delta"]
    for names in _stretches(dp):
        whole = [_phase(dp["phases"][name]) for name in names]
        length = max(phase.steps for phase in whole)
        for k in range(1, points + 1 if length else 1):
            part = [*done, *(_part(phase, k, points) for phase in whole)]
            pld = composed_epsilon(part, delta, interval=SEARCH)
            found.append(
                Point(at + length * k // points, 0.0, pld, composed_epsilon(part, delta, "rdp"))
            )
        done += whole
        at += length
    exact = {f"epsilon_{name}": dp["as_run"][f"epsilon_{name}"] for name in ("pld", "rdp")}
    return [*found[:-1], *(dataclasses.replace(point, **exact) for point in found[-1:])]


def _stretches(dp: Mapping[str, Any]) -> list[list[str]]:
    """Names of updates that are made together, in the order of the phases."""
    alone = [[name] for name in ("business", "discriminator", "restorer") if name in dp["phases"]]
    joint = [name for name in dp["phases"] if name.startswith(_JOINT)]
    return [*alone, joint] if joint else alone


def _phase(part: Mapping[str, Any]) -> MechanismRun:
    names = (
        "noise_multiplier",
        "sampling_probability",
        "sampling",
        "rows",
        "overflow_probability",
    )
    return MechanismRun(SampledGaussian(**{name: part[name] for name in names}), part["steps"])


def _part(phase: MechanismRun, k: int, points: int) -> MechanismRun:
    return dataclasses.replace(phase, steps=-(-phase.steps * k // points))


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
