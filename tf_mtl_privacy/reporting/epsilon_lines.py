"""The accounting calculator's answer, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tf_mtl_privacy.privacy.accounting.events import FAR_BELOW
from tf_mtl_privacy.reporting.formats import block, number

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy.accounting.statements import Summary

_NEIGHBOURS = {
    "add_or_remove_one": "one image more or less (add or remove)",
    "zero_out_one": "one image there, or an empty row in its place (zero out)",
}
_SAMPLING = {
    "poisson": "Poisson: each image is in each step's batch independently with probability {q:.4g}",
    "shuffled_epochs": "shuffled epochs: each image is used once per epoch; the sampling does not "
    "help privacy, so {n} whole Gaussian mechanisms are composed",
}


def epsilon_text(summary: Summary, target_epsilon: float = 0.0) -> str:
    """The whole answer; `target_epsilon` > 0 if the noise was asked for."""
    phase, mechanism = summary.phase, summary.phase.mechanism
    lines = []
    if target_epsilon:
        text = f"{mechanism.noise_multiplier:.4f} keeps epsilon at or below {target_epsilon:g}"
        if summary.epsilon_pld < FAR_BELOW * target_epsilon:
            text += f"; it is {number(summary.epsilon_pld)} then"
            text += f", and with less noise there is none: {summary.bound}" if summary.bound else ""
        lines += block("noise multiplier", [text])
    else:
        lines += block("noise multiplier", [f"{mechanism.noise_multiplier:g}"])
    lines += block("updates", [_updates(summary)])
    text = _SAMPLING[mechanism.sampling].format(q=mechanism.sampling_probability, n=phase.exposures)
    lines += block("sampling", [text])
    lines += block("delta", [_delta(summary)])
    lines += block("neighbouring data", [_NEIGHBOURS[summary.adjacency]])
    lines += ["", *block("epsilon of an image", _image(summary))]
    lines += block("epsilon of a person", _person(summary))
    lines += block("the paper's rule", [_paper(summary)])
    lines += ["", *_table(summary)]
    return "\n".join(lines)


def _updates(summary: Summary) -> str:
    phase = summary.phase
    epochs = phase.steps * phase.mechanism.sampling_probability
    rows = f" over {phase.mechanism.rows:,} images" if phase.mechanism.rows else ""
    return f"{phase.steps:,} steps, {epochs:.4g} epochs{rows}"


def _delta(summary: Summary) -> str:
    text = f"{summary.delta:.3g}"
    if summary.phase.overflow:
        text += (
            f", with the chance of a batch that is too full ({summary.phase.overflow:.1g}) in it"
        )
    return text


def _image(summary: Summary) -> list[str]:
    figures = (
        ("epsilon_pld", "by privacy loss distributions (PLD), the tighter bound"),
        ("epsilon_rdp", "by Renyi accounting (RDP)"),
        ("replace_one", "for replacing an image by another one (PLD)"),
    )
    return _with_reasons(summary, figures)


def _person(summary: Summary) -> list[str]:
    if not summary.images_per_person:
        return [f"inf: {summary.reasons['person_pld']}"]
    most = f"for at most {summary.images_per_person} images each"
    if not {"person_pld", "person_rdp"} & set(summary.reasons):
        pld, rdp = number(summary.person_pld), number(summary.person_rdp)
        return [f"{pld} by PLD, {rdp} by RDP, {most}"]
    figures = (("person_pld", f"by PLD, {most}"), ("person_rdp", f"by RDP, {most}"))
    return _with_reasons(summary, figures)


def _with_reasons(summary: Summary, figures: Sequence[tuple[str, str]]) -> list[str]:
    """One line a figure; a reason is given in full where it is first met."""
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
    valid = "" if summary.paper_epsilon < 1 else "; it is proven below 1 only"
    return (
        f"{number(summary.paper_epsilon)} for ONE step, sqrt(2 ln(1.25/delta)) / noise: a "
        f"reference line that ignores composition and sampling{valid}"
    )


def _table(summary: Summary) -> list[str]:
    lines = [f"{'steps':>12}{'epochs':>10}{'PLD':>10}{'RDP':>10}"]
    for point in summary.points:
        pld, rdp = number(point.epsilon_pld), number(point.epsilon_rdp)
        lines.append(f"{point.steps:>12,}{point.epochs:>10.4g}{pld:>10}{rdp:>10}")
    return lines
