"""Sections on differential privacy: the card, the privacy statement, epsilon over steps.

`statement_blocks` is `privacy.txt` of a run; `calculator_blocks` answers the accounting command.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.privacy.accounting.events import (
    FAR_BELOW,
    POISSON,
    SHUFFLED_EPOCHS,
    MechanismRun,
    SampledGaussian,
)
from tf_mtl_privacy.reporting.charts import epsilon_chart
from tf_mtl_privacy.reporting.document import (
    Block,
    Code,
    Fields,
    Items,
    Missing,
    Notice,
    Paragraph,
    Picture,
    Row,
    Table,
)
from tf_mtl_privacy.reporting.formats import MISSING, count, number
from tf_mtl_privacy.reporting.privacy_card import (
    NOT_COVERED,
    claims,
    epsilon,
    is_conditional,
    label_access,
    meaning,
)
from tf_mtl_privacy.reporting.render_text import render_text

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy.accounting.statements import Point, Summary

_JOINT = "adversarial_"
_POINTS = 4


def why_not(dp: Mapping[str, Any]) -> str:
    """The reason why there is no epsilon to draw; empty if there is one."""
    if dp.get("scope") is None or dp.get("epsilon_pld") is None:
        return str(dp.get("reason") or "no update was private")
    if any(part["sampling"] != POISSON for part in dp["phases"].values()):
        return "batches were shuffled epochs, so epsilon grows by whole epochs, not by steps"
    return ""


def spans(dp: Mapping[str, Any]) -> list[tuple[str, int, int]]:
    """(name, first step, last step) of each stretch of the run with private updates.

    The updates of the joint phase interleave, so its stretch is as long as the longest of them.
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
    """Epsilon at points along the run, in the order of its phases.

    The last point is the epsilon of all accounted updates, as in the results; earlier ones are up
    to 0.5 % above the exact epsilon.

    Args:
        dp: `dp` of results.json, with Poisson batches and an epsilon.
        points: number of points per stretch.
    """
    # Imported here: most commands print epsilons and compose none.
    from tf_mtl_privacy.privacy.accounting.epsilon import SEARCH
    from tf_mtl_privacy.privacy.accounting.epsilon import epsilon as composed_epsilon
    from tf_mtl_privacy.privacy.accounting.statements import Point

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
    """Names of interleaved updates, in the order of the phases."""
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


def card_blocks(card: Mapping[str, Any], *, summary: bool = True) -> Iterator[Block]:
    """Builds the blocks of a privacy card (`privacy_card.privacy_card`).

    Args:
        card: the card.
        summary: whether to begin with its summary.
    """
    for text in card["contradictions"]:
        yield Notice(f"CONTRADICTED by the audit: {text}")
    if summary:
        yield Paragraph(card["summary"])
    if card["released"]:
        yield _released(card)
    yield Items("Claims", tuple(card["claims"]))
    readers = card["readers"] or ["None besides the private updates."]
    yield Items("Other access to private labels", tuple(readers))
    attacked = tuple(Row((part["what"], part["finding"])) for part in card["attacked"])
    if attacked:
        yield Table("Attacks and their results, the worst first", ("attack", "result"), attacked)
    else:
        yield Paragraph("No attack was run.")
    for part in card["not_attacked"]:
        yield _not_attacked(part)
    yield Items("Not protected", tuple(card["not_protected"]))


def card_text(card: Mapping[str, Any], width: int = 100) -> str:
    """A privacy card for the terminal."""
    return render_text(card_blocks(card), width)


def dp_blocks(dp: Mapping[str, Any]) -> Iterator[Block]:
    """Epsilon and what it covers, and other access to private labels; `dp` of results.json."""
    yield Items("Differential privacy", tuple(claims(dp)))
    if readers := label_access(dp):
        yield Items("Other access to private labels", tuple(readers))


def statement_blocks(dp: Mapping[str, Any]) -> Iterator[Block]:
    """Builds the privacy statement of a run, with tensorflow-privacy's own statements."""
    yield from dp_blocks(dp)
    yield Items("Not covered by any epsilon", NOT_COVERED)
    # The library does not know what voids a guarantee, so a void run shows none of its figures.
    for name, phase in ({} if dp["void"] else dp["phases"]).items():
        if phase.get("statement"):
            yield Notice(_about(name, phase, dp["scope"]))
            yield Code(phase["statement"])


def privacy_text(dp: Mapping[str, Any]) -> str:
    """The content of `privacy.txt`.

    Args:
        dp: that part of results.json.
    """
    return render_text(statement_blocks(dp)) + "\n"


def _about(name: str, phase: Mapping[str, Any], scope: str) -> str:
    """The conditions under which the library's statement holds."""
    text = (
        f"Statement of tensorflow-privacy on the '{name}' updates alone, by Renyi accounting and "
        "assuming Poisson sampling (its compute_dp_sgd_privacy gives epsilon "
        f"{epsilon(phase['library_epsilon'])})."
    )
    if phase["sampling"] == SHUFFLED_EPOCHS:
        text += (
            " THESE BATCHES WERE SHUFFLED: what it says under Poisson sampling does not hold here."
        )
    if scope == "discriminator":
        text += (
            " Its 'model checkpoints' are those of the discriminator only, conditional on the "
            "encoder's weights at every step, which the library does not know about."
        )
    return text


def _not_attacked(part: Mapping[str, str]) -> Missing:
    why, _, line = part["why"].rpartition("; ")
    if line.startswith("python -m "):
        return Missing(part["what"], line, why)
    return Missing(part["what"], why=part["why"])


def _released(card: Mapping[str, Any]) -> Table:
    rows = [
        Row(
            (
                part,
                "none" if value is None else epsilon(value),
                *((MISSING,) * 4 if value is None else _terms(card)),
            )
        )
        for part, value in card["released"].items()
    ]
    if card["delta"] is not None and card["conditional"] is not None:
        name = "no released weights: the discriminator's updates, given the encoder's weights"
        value = f"conditional {epsilon(card['conditional'])}"
        rows.append(Row((name, value, *_terms(card))))
    return Table(
        "Epsilon of the released weights",
        ("weights", "epsilon", "delta", "neighbouring data", "sampling", "unit"),
        tuple(rows),
    )


def _terms(card: Mapping[str, Any]) -> tuple[str, ...]:
    names = ("adjacency", "sampling", "unit")
    return f"{card['delta']:g}", *(meaning(card[name]) for name in names)


def epsilon_blocks(dp: Mapping[str, Any]) -> Iterator[Block]:
    """Draws epsilon over steps; `dp` of results.json."""
    if why := why_not(dp):
        yield Missing("epsilon over steps", why=why)
        return
    points, stretches = epsilon_over_steps(dp), spans(dp)
    targets = [budget["target_epsilon"] for budget in dp["budgets"]]
    target = targets[0] if len(targets) == 1 else None
    last = points[-1]
    whose = (
        "the discriminator's updates, given the encoder's weights at every step"
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
        f"Curves of {word}epsilon over private steps, of {whose}. By PLD: {told}; by RDP at the "
        f"end: {word}{epsilon(last.epsilon_rdp)}.",
        f"{(word + 'epsilon').capitalize()} over private steps, of {whose}, at delta "
        f"{dp['delta']:g}.",
    )
    if dp["epsilon_pld"] != dp["as_run"]["epsilon_pld"]:
        yield Paragraph(
            "The curve shows the updates that ran. The claim is the epsilon of the plan, "
            f"{word}{epsilon(dp['epsilon_pld'])}, because the data decided when a phase ended."
        )


_NEIGHBOURS = {
    "add_or_remove_one": "add or remove one image",
    "zero_out_one": "replace one image by an empty row (zero out)",
}
_SAMPLING = {
    "poisson": "Poisson: each image joins each batch independently with probability {q:.4g}",
    "shuffled_epochs": "shuffled epochs: each image is used once per epoch; no amplification by "
    "sampling, so {n} whole Gaussian mechanisms are composed",
}


def calculator_blocks(summary: Summary, target_epsilon: float = 0.0) -> Iterator[Block]:
    """Builds the answer of the accounting calculator; `target_epsilon` is 0 if noise was given."""
    phase, mechanism = summary.phase, summary.phase.mechanism
    noise = f"{mechanism.noise_multiplier:g}"
    if target_epsilon:
        noise = f"{mechanism.noise_multiplier:.4f} keeps epsilon at or below {target_epsilon:g}"
        if summary.epsilon_pld < FAR_BELOW * target_epsilon:
            noise += f"; epsilon is then {number(summary.epsilon_pld)}"
            noise += f", and infinite with less noise: {summary.bound}" * bool(summary.bound)
    epochs = phase.steps * mechanism.sampling_probability
    rows = f" over {mechanism.rows:,} images" if mechanism.rows else ""
    delta = f"{summary.delta:.3g}"
    if phase.overflow:
        delta += f", including the probability {phase.overflow:.1g} that a batch overflows"
    sampling = _SAMPLING[mechanism.sampling]
    sampling = sampling.format(q=mechanism.sampling_probability, n=phase.exposures)
    yield Fields(
        (
            ("noise multiplier", (noise,)),
            ("updates", (f"{phase.steps:,} steps, {epochs:.4g} epochs{rows}",)),
            ("sampling", (sampling,)),
            ("delta", (delta,)),
            ("neighbouring data", (_NEIGHBOURS[summary.adjacency],)),
            ("epsilon of an image", tuple(_image(summary))),
            ("epsilon of a person", tuple(_person(summary))),
            ("paper's formula", (_paper(summary),)),
        )
    )
    points = tuple(
        Row(
            (
                f"{point.steps:,}",
                f"{point.epochs:.4g}",
                number(point.epsilon_pld),
                number(point.epsilon_rdp),
            )
        )
        for point in summary.points
    )
    yield Table("", ("steps", "epochs", "PLD", "RDP"), points)


def epsilon_text(summary: Summary, target_epsilon: float = 0.0) -> str:
    """The answer of the accounting calculator as text."""
    return render_text(calculator_blocks(summary, target_epsilon))


def _image(summary: Summary) -> list[str]:
    figures = (
        ("epsilon_pld", "by privacy loss distributions (PLD), the tighter bound"),
        ("epsilon_rdp", "by Renyi accounting (RDP)"),
        ("replace_one", "for replacing one image by another (PLD)"),
    )
    return _with_reasons(summary, figures)


def _person(summary: Summary) -> list[str]:
    if not summary.images_per_person:
        return [f"inf: {summary.reasons['person_pld']}"]
    bound = f"for at most {summary.images_per_person} images each"
    if not {"person_pld", "person_rdp"} & set(summary.reasons):
        pld, rdp = number(summary.person_pld), number(summary.person_rdp)
        return [f"{pld} by PLD, {rdp} by RDP, {bound}"]
    figures = (("person_pld", f"by PLD, {bound}"), ("person_rdp", f"by RDP, {bound}"))
    return _with_reasons(summary, figures)


def _with_reasons(summary: Summary, figures: Sequence[tuple[str, str]]) -> list[str]:
    """One line a figure; a repeated reason is not printed again."""
    lines: list[str] = []
    told: set[str] = set()
    for name, words in figures:
        line, reason = f"{number(getattr(summary, name))} {words}", summary.reasons.get(name, "")
        if reason:
            line += ", for the same reason" if reason in told else f": {reason}"
            told.add(reason)
        lines.append(line)
    return lines


def _paper(summary: Summary) -> str:
    valid = "" if summary.paper_epsilon < 1 else "; proven for epsilon below 1 only"
    return (
        f"{number(summary.paper_epsilon)} for a single update, sqrt(2 ln(1.25/delta)) / noise "
        f"multiplier; for reference, as it ignores composition and sampling{valid}"
    )
