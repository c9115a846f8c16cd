"""What a run may say about differential privacy, in lines: the epsilon of each part, or none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.reporting.formats import MISSING, count, number

_NEIGHBOURS = {
    "add_or_remove_one": "one image more or less",
    "zero_out_one": "one image, or an empty row in its place",
}
_SAMPLING = {
    "poisson": "Poisson batches",
    "every row": "every row in every batch, so that sampling hides nobody",
    "shuffled_epochs": "shuffled epochs, from which privacy gains nothing",
}


WEIGHTS_ALONE = (
    "that epsilon is of the weights and of what is computed from the weights alone, not of the "
    "features, restored image or answers for a training picture, which are made from the picture "
    "itself"
)


def dp_lines(dp: Mapping[str, Any]) -> list[str]:
    """Epsilon and what it covers, or why none is stated; the `dp` part of results.json."""
    return [*claim_lines(dp), *reader_lines(dp)]


def claim_lines(dp: Mapping[str, Any]) -> list[str]:
    """As `dp_lines`, without who reads private labels."""
    if dp.get("scope") is None:
        return [f"no epsilon is stated: {dp.get('reason') or 'no reason is given'}"]
    if dp["void"]:
        return [f"VOID, nothing is protected: {dp['void_reason']}"]
    if dp["epsilon_pld"] is None:
        return [f"no epsilon is stated: {dp['reason']}"]
    return [
        *_claims(dp),
        f"for {_NEIGHBOURS[dp['adjacency']]}; {_sampling(dp)}; {count(dp['steps'])} updates "
        f"counted, clip norm {dp['l2_norm_clip']:g}",
        _person(dp),
        *_early(dp),
        *_phases(dp),
        *_budgets(dp),
    ]


def _claims(dp: Mapping[str, Any]) -> list[str]:
    value = (
        f"epsilon {epsilon(dp['epsilon_pld'])} (PLD; RDP {epsilon(dp['epsilon_rdp'])}) at delta "
        f"{dp['delta']:g}"
    )
    released = [name for name, figure in dp["released"].items() if figure is not None]
    if released:
        return [
            f"{', '.join(released)}, as released: {value}, for all of them together",
            WEIGHTS_ALONE,
            f"public: {dp['public_backbone']}",
        ]
    return [
        f"NO released weight has an epsilon: {dp['reason']}",
        "only the discriminator's updates have, conditional on the encoder's whole trajectory, as "
        f"if that were known before rows are drawn: conditional {value}",
    ]


def is_conditional(dp: Mapping[str, Any]) -> bool:
    """Whether an epsilon is stated that no released weight has: given the encoder's course."""
    released = (dp.get("released") or {}).values()
    stated = dp.get("epsilon_pld") is not None and not dp.get("void")
    return stated and all(value is None for value in released)


def _word(dp: Mapping[str, Any]) -> str:
    """What stands before every epsilon that holds for no released weight."""
    return "conditional " if is_conditional(dp) else ""


def meaning(word: str | None) -> str:
    """What a value of `dp.adjacency`, `dp.sampling` or `dp.unit` stands for."""
    units = {"example": "an image"}
    return MISSING if word is None else (_NEIGHBOURS | _SAMPLING | units).get(word, word)


def epsilon(value: float | None) -> str:
    """An epsilon as it is printed: rounded up, `inf` where there is none."""
    return number(math.inf if value is None else value)


def _sampling(dp: Mapping[str, Any]) -> str:
    full = all(part["sampling_probability"] == 1 for part in dp["phases"].values())
    return _SAMPLING["every row" if full else dp["sampling"]]


def _person(dp: Mapping[str, Any]) -> str:
    most, person = dp["max_images_per_person"], dp["person"]
    if not most:
        return (
            "a person: no epsilon, as images per person are not bounded (--max_images_per_person)"
        )
    return (
        f"a person with at most {most} images: {_word(dp)}{epsilon(person['epsilon_pld'])} (PLD), "
        f"{epsilon(person['epsilon_rdp'])} (RDP)"
    )


def _phases(dp: Mapping[str, Any]) -> list[str]:
    lines, rules = [], {}
    for name, part in dp["phases"].items():
        shown = name.replace("_", " ")
        rules[shown] = epsilon(part["paper_rule_one_step"])
        lines.append(
            f"{shown}: {_word(dp)}{epsilon(part['epsilon_pld'])} by itself; noise "
            f"{part['noise_multiplier']:.3f}, {_updates(part)} updates"
        )
    alike = len(set(rules.values())) == 1
    listed = [value if alike else f"{name} {value}" for name, value in rules.items()]
    values = ", ".join(dict.fromkeys(listed))
    return [*lines, f"the paper's rule for ONE step of these, a reference line: {values}"]


def _updates(part: Mapping[str, Any]) -> str:
    """With those that were planned, where not all of them ran."""
    ran, planned = part["steps"], part["steps_planned"]
    return count(ran) if ran >= planned else f"{count(ran)} of {count(planned)} planned"


def _early(dp: Mapping[str, Any]) -> list[str]:
    """Where a gate ended a phase, the number of updates depends on the data."""
    run = dp["as_run"]["epsilon_pld"]
    if run == dp["epsilon_pld"]:
        return []
    return [
        f"that is the epsilon of the plan; a gate or the stop rule ended it early, at {_word(dp)}"
        f"{epsilon(run)}, which holds only for whoever fixed that number of updates before"
    ]


def _budgets(dp: Mapping[str, Any]) -> list[str]:
    targets = []
    for budget in dp["budgets"]:
        names = ", ".join(budget["updates"]).replace("_", " ")
        line = f"target {budget['target_epsilon']:g} for {names}"
        if exceeded := budget.get("exceeded"):
            line += f"; EXCEEDED: {exceeded}"
        if missed := budget.get("missed"):
            line += f"; {missed}"
        targets.append(line)
    return targets + [
        f"{phase} ended {count(left)} steps early: its budget was spent"
        for phase, left in dp["budget_ended"].items()
    ]


def reader_lines(dp: Mapping[str, Any]) -> list[str]:
    """Who reads private labels beside the private updates."""
    outside = [
        *(dp.get("unaccounted_label_access") or ()),
        *(dp.get("validation_label_access") or ()),
    ]
    public = dp.get("public_label_access") or ()
    return [f"not accounted for: {what}" for what in outside] + [
        f"read in place of private labels: {what}" for what in public
    ]
