"""Privacy card of a run: claims of differential privacy, attacks and their results, and gaps.

The card is data; `sections.privacy` turns it into blocks. The sentences about epsilon are built
here once, for the card, the report, the terminal and `privacy.txt`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.evaluation.schema import Audit, Results
from tf_mtl_privacy.reporting.audit_findings import (
    above_chance_note,
    audit_findings,
    audit_gaps,
    beyond_chance,
    membership_gap,
    recovery,
    sample_difference_note,
)
from tf_mtl_privacy.reporting.formats import (
    MISSING,
    count,
    listed,
    number,
    percent,
    reworded,
    sentence,
)
from tf_mtl_privacy.reporting.reconcile_probes import (
    audit_is_of,
    headline_text,
    leakage,
    reading_text,
    released_leakage,
)

RUN_DIR = "RUN_DIR"
NOT_COVERED = (
    "choices made on validation rows (when to stop, which settings), and what validation images "
    "contribute to a discriminator (--discriminator_whitening)",
    "the choice of training rows and people, and their number",
    "other runs on the same images: the epsilons of all released runs add up",
    "a copied or rolled-back run folder: it is not detected, and two continuations of a run count "
    "as two releases",
    "what training reveals besides the weights: exact losses of training batches in logs, in "
    "checkpoints and on the terminal; that a non-finite loss ended training; after a kill, the "
    "folder features/ until the next start",
    "attacks on floating-point noise",
)
WEIGHTS_ONLY = (
    "this epsilon covers the weights and everything computed from them alone; it does not cover "
    "the features, restored image or predictions of a training image, which are computed from the "
    "image itself"
)
_CONDITIONAL = (
    "the discriminator's updates alone have a conditional epsilon of {}; it assumes that the "
    "encoder's weights at every step are known in advance, holds for no released weights, and by "
    "itself protects nobody in the training set"
)
_NEIGHBOURS = {
    "add_or_remove_one": "add or remove one image",
    "zero_out_one": "replace one image by an empty row",
}
_SAMPLING = {
    "poisson": "Poisson sampling",
    "every row": "every row in every batch (no amplification by sampling)",
    "shuffled_epochs": "shuffled epochs (no amplification by sampling)",
}
_PASSES = {
    "grey": "",
    "mean": "the mean colour of the covered pixels, three numbers per image",
    "colour": "two of three colour components of each covered pixel, so a label in the brightness "
    "would pass",
}


def privacy_card(
    results: Results, audit: Audit | None = None, run_dir: str = RUN_DIR
) -> dict[str, Any]:
    """Builds the privacy card of a run.

    Args:
        results: content of results.json.
        audit: content of audit.json, or None. The audit of another run
            (`reconcile_probes.audit_is_of`) counts as None.
        run_dir: the run's folder, for commands.

    Returns:
        JSON-ready: `released` (part -> epsilon, or null), `claims` (sentences), `conditional`
        (epsilon of the discriminator's updates given the encoder, or null), `delta`, `adjacency`,
        `sampling`, `unit`, `noise` (as in results.json; null without an epsilon), `void` (reason
        why no epsilon holds, or null), `readers` (accesses to private labels outside the
        accounting), `attacked` (list of `what`, `finding`), `not_attacked` (list of `what`, `why`),
        `not_protected` (sentences), `contradictions` (sentences of the audit) and `summary` (a few
        sentences).
    """
    other = audit is not None and not audit_is_of(results, audit)
    audit = None if other else audit
    known = audit or cast(Audit, {})
    dp, privacy = results["dp"], results["privacy"]
    found = leakage(results, audit)
    return {
        "released": dict(dp.get("released") or {}),
        "claims": claims(dp),
        "conditional": _conditional(dp),
        **{name: dp.get(name) for name in ("delta", "adjacency", "sampling", "unit", "noise")},
        "void": dp.get("void_reason") if dp.get("void") else None,
        "readers": label_access(dp),
        "attacked": [
            {"what": what, "finding": finding} for what, finding in _ranked(results, found, known)
        ],
        "not_attacked": [
            {"what": what, "why": why}
            for what, why in (*_gaps(privacy, found, run_dir), *_unaudited(audit, other, run_dir))
        ],
        "not_protected": [
            *_weights(dp),
            *_content(results),
            *_attackers(found),
            *_members(known),
            *(f"No epsilon covers {text}." for text in NOT_COVERED),
        ],
        "contradictions": list(known.get("contradictions") or ()),
        "summary": _summary(results, found, audit),
    }


def private_name(results: Results) -> str:
    """The private label in words: `the iris`, `identity`, `the code of Eyeglasses, Young`."""
    label = Config.from_dict(results.get("config") or {}).data.effective_private_label
    if label == "identity":
        return "identity"
    _, _, names = label.partition(":")
    return f"the code of {names.replace(',', ', ')}" if names else f"the {label}"


def claims(dp: Mapping[str, Any]) -> list[str]:
    """Sentences on the epsilon of a run and what it covers, or why there is none.

    Args:
        dp: that part of results.json.
    """
    if dp.get("scope") is None:
        return [f"No epsilon: {dp.get('reason') or 'no reason is given'}."]
    if dp["void"]:
        return [f"VOID, no privacy guarantee holds: {dp['void_reason']}."]
    if dp["epsilon_pld"] is None:
        return [f"No epsilon: {dp['reason']}."]
    return [
        *_guarantee(dp),
        f"Neighbouring datasets: {_NEIGHBOURS[dp['adjacency']]}. {sentence(_sampling(dp))} "
        f"{count(dp['steps'])} accounted updates, clipping norm {dp['l2_norm_clip']:g}.",
        _person(dp),
        *_ended_early(dp),
        *_by_update(dp),
        *_budgets(dp),
    ]


def epsilon_statement(dp: Mapping[str, Any]) -> list[str]:
    """The epsilon statement of a run in at most two lines, with its conditions."""
    released = _released(dp)
    if dp.get("void"):
        return [f"VOID: no privacy guarantee holds: {dp['void_reason']}."]
    if released:
        return [
            f"Released weights: epsilon {epsilon(max(released.values()))} at delta "
            f"{dp['delta']:g} ({_NEIGHBOURS[dp['adjacency']]}).",
            "Not covered: features, restored images and predictions of training images.",
        ]
    conditional = _conditional(dp)
    if conditional is None:
        return ["No epsilon: nothing bounds what the weights reveal about a training image."]
    return [
        "No released weights have an epsilon.",
        f"Discriminator only: {epsilon(conditional)} (delta {dp['delta']:g}), conditional on known "
        "encoder weights.",
    ]


def label_access(dp: Mapping[str, Any]) -> list[str]:
    """Sentences on accesses to private labels other than the accounted updates."""
    outside = [
        *(dp.get("unaccounted_label_access") or ()),
        *(dp.get("validation_label_access") or ()),
    ]
    return [
        *(f"Outside the accounting: {reworded(what)}." for what in outside),
        *(
            f"Public data instead of private labels for {reworded(what)}."
            for what in dp.get("public_label_access") or ()
        ),
    ]


def is_conditional(dp: Mapping[str, Any]) -> bool:
    """Tells if the stated epsilon holds for no released weights, but given the encoder only."""
    stated = dp.get("epsilon_pld") is not None and not dp.get("void")
    return stated and not _released(dp)


def meaning(word: str | None) -> str:
    """A value of `dp.adjacency`, `dp.sampling` or `dp.unit` in words."""
    units = {"example": "an image"}
    return MISSING if word is None else (_NEIGHBOURS | _SAMPLING | units).get(word, word)


def epsilon(value: float | None) -> str:
    """An epsilon rounded up, or `inf` for None."""
    return number(math.inf if value is None else value)


def _released(dp: Mapping[str, Any]) -> dict[str, float]:
    """Released parts that have an epsilon."""
    return {p: value for p, value in (dp.get("released") or {}).items() if value is not None}


def _conditional(dp: Mapping[str, Any]) -> float | None:
    value: float | None = (dp.get("conditional") or {}).get("discriminator")
    return value


def _guarantee(dp: Mapping[str, Any]) -> list[str]:
    value = (
        f"epsilon {epsilon(dp['epsilon_pld'])} (PLD; RDP {epsilon(dp['epsilon_rdp'])}) at delta "
        f"{dp['delta']:g}"
    )
    if released := _released(dp):
        return [
            f"The released weights of {listed(list(released))} together have {value}.",
            sentence(WEIGHTS_ONLY),
            f"Public data: {reworded(dp['public_backbone'])}.",
        ]
    return [
        f"No released weights have an epsilon: {dp['reason']}.",
        f"Only the discriminator's updates have one, conditional {value}. It assumes that the "
        "encoder's weights at every step are known before any batch is sampled.",
    ]


def _word(dp: Mapping[str, Any]) -> str:
    """Qualifies every epsilon that holds for no released weights."""
    return "conditional " if is_conditional(dp) else ""


def _sampling(dp: Mapping[str, Any]) -> str:
    full = all(part["sampling_probability"] == 1 for part in dp["phases"].values())
    return _SAMPLING["every row" if full else dp["sampling"]]


def _person(dp: Mapping[str, Any]) -> str:
    bound, person = dp["max_images_per_person"], dp["person"]
    if not bound:
        return (
            "No person-level epsilon, because the number of images per person is not bounded "
            "(--max_images_per_person)."
        )
    return (
        f"Person-level, at most {bound} images each: {_word(dp)}epsilon "
        f"{epsilon(person['epsilon_pld'])} (PLD; RDP {epsilon(person['epsilon_rdp'])})."
    )


def _ended_early(dp: Mapping[str, Any]) -> list[str]:
    """A gate that ends a phase makes the number of updates depend on the data."""
    run = dp["as_run"]["epsilon_pld"]
    if run == dp["epsilon_pld"]:
        return []
    return [
        "This is the epsilon of the planned number of updates. A gate or the stop rule ended "
        f"training early; the updates that ran have {_word(dp)}epsilon {epsilon(run)}, which would "
        "hold only if their number had been fixed in advance."
    ]


def _by_update(dp: Mapping[str, Any]) -> list[str]:
    lines, rules = [], {}
    for name, part in dp["phases"].items():
        shown = name.replace("_", " ")
        rules[shown] = epsilon(part["paper_rule_one_step"])
        lines.append(
            f"{sentence(shown)[:-1]} updates alone: {_word(dp)}epsilon "
            f"{epsilon(part['epsilon_pld'])}, noise multiplier {part['noise_multiplier']:.3f}, "
            f"{_updates(part)} updates."
        )
    alike = len(set(rules.values())) == 1
    values = [value if alike else f"{name} {value}" for name, value in rules.items()]
    return [
        *lines,
        "For reference, the paper's formula for a single update, sqrt(2 ln(1.25/delta)) / noise "
        f"multiplier, gives {', '.join(dict.fromkeys(values))}. It ignores composition and "
        "sampling.",
    ]


def _updates(part: Mapping[str, Any]) -> str:
    """The number of updates that ran, with the planned number if fewer ran."""
    ran, planned = part["steps"], part["steps_planned"]
    return count(ran) if ran >= planned else f"{count(ran)} of {count(planned)} planned"


def _budgets(dp: Mapping[str, Any]) -> list[str]:
    lines = []
    for budget in dp["budgets"]:
        names = listed([name.replace("_", " ") for name in budget["updates"]])
        line = f"Target epsilon {budget['target_epsilon']:g} for {names}"
        if exceeded := budget.get("exceeded"):
            line += f"; EXCEEDED: {exceeded}"
        if missed := budget.get("missed"):
            line += f"; {missed}"
        lines.append(f"{line}.")
    return lines + [
        f"{sentence(phase)[:-1]} stopped {count(left)} steps early: privacy budget exhausted."
        for phase, left in dp["budget_ended"].items()
    ]


def _ranked(
    results: Results, found: Mapping[str, Any] | None, audit: Audit
) -> Iterator[tuple[str, str]]:
    """Yields all results of attackers and the audit, the highest severity first."""
    about_label = [(_severity(results, entry), pair) for pair, entry in _leaks(results, found)]
    about_audit = [(finding.severity, finding[:2]) for finding in audit_findings(audit)]
    for _, (what, text) in sorted([*about_label, *about_audit], key=lambda pair: -pair[0]):
        yield what, text


def _severity(results: Results, entry: Mapping[str, Any]) -> float:
    return beyond_chance(entry["upper"], results["privacy"].get("chance") or 0.0)


def _leaks(
    results: Results, found: Mapping[str, Any] | None
) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    """Yields the leakage of the private label from each target, and its entry."""
    chance = percent(results["privacy"].get("chance"))
    if not found:
        return
    for words, entry in released_leakage(found):
        told = [reworded(text) for text in found["told"] if text.startswith(f"{words}: ")]
        notes = "".join(f"; {text.removeprefix(f'{words}: ')}" for text in told)
        finding = f"{reading_text(entry)}; chance {chance}{notes}"
        yield (f"{private_name(results)}, from {words}", finding), entry


def _gaps(
    privacy: Mapping[str, Any], found: Mapping[str, Any] | None, run_dir: str
) -> Iterator[tuple[str, str]]:
    if not privacy.get("classes", 1):
        yield "the private label", "this data has none"
    elif not found or not found["worst"] or not found["setting"]:
        command = f"python -m tf_mtl_privacy.evaluate --run_dir={run_dir} --probe=fast"
        yield "fresh attackers of the private label", command


def _unaudited(audit: Audit | None, other: bool, run_dir: str) -> Iterator[tuple[str, str]]:
    command = f"python -m tf_mtl_privacy.audit --run_dir={run_dir} --setting=fast"
    if audit is not None:
        yield from audit_gaps(audit)
        yield from filter(None, [membership_gap(audit, command)])
        return
    stale = "the audit.json in the folder is of another run; " if other else ""
    yield "membership inference, inversion, test of the claimed epsilon", stale + command


def _weights(dp: Mapping[str, Any]) -> Iterator[str]:
    bare = [part for part, figure in (dp.get("released") or {}).items() if figure is None]
    if bare:
        yield (
            f"The released weights of {listed(bare)}: no epsilon bounds what they reveal about a "
            "training image."
        )
    if (conditional := _conditional(dp)) is not None:
        yield sentence(_CONDITIONAL.format(_at_delta(dp, conditional)))
    bounded = dp.get("max_images_per_person")
    if dp.get("epsilon_pld") is not None and not bounded:
        yield (
            "People with several training images: epsilon covers one image, and the number of "
            "images per person was not bounded (--max_images_per_person)."
        )
    if dp.get("unaccounted_label_access"):
        yield (
            "No epsilon covers these uses of the private labels of training rows: "
            f"{reworded('; '.join(dp['unaccounted_label_access']))}."
        )


def _content(results: Results) -> Iterator[str]:
    """Names the information that the features carry by design, or may carry."""
    tasks = listed(list(results["utility"]))
    yield f"{sentence(tasks)[:-1]}: the features carry these by design, for every input image."
    if results["privacy"].get("classes", 1):
        yield (
            f"Everything in a face other than {private_name(results)}: only this label was to be "
            "removed; features and restored images may reveal the rest."
        )
    passes = _PASSES.get(str(_option(results, "mask_fill")), "")
    removal: Mapping[str, Any] = results.get("removal") or {}
    if passes and removal.get("mask") == "learned":
        yield f"With --mask_fill={_option(results, 'mask_fill')} the mask lets through {passes}."


def _option(results: Results, name: str) -> Any:
    config: Mapping[str, Any] = results.get("config") or {}
    return (config.get("removal") or {}).get(name)


def _attackers(found: Mapping[str, Any] | None) -> Iterator[str]:
    if not found or not found["worst"]:
        return
    if not found["claim"]:
        yield f"No bound on attacker accuracy is claimed: {reworded('; '.join(found['refused']))}."
        return
    rows = found["features"].get("rows")
    learned = f" (these had {count(rows)} training images)" if rows else ""
    yield (
        "Stronger attackers than those tried here, or with more training images"
        f"{learned}: failing attacks do not prove privacy."
    )


def _members(audit: Audit) -> Iterator[str]:
    """Names findings about people in the training set."""
    yield from filter(None, [sample_difference_note(audit)])
    if told := above_chance_note(audit):
        yield f"Membership in the training set: {told}."


def _summary(results: Results, found: Mapping[str, Any] | None, audit: Audit | None) -> str:
    sentences = [_epsilon_sentence(results["dp"])]
    name, chance = private_name(results), percent(results["privacy"].get("chance"))
    if found and found["worst"]:
        sentences.append(
            f"The strongest fresh attacker recovers {name} with an accuracy of "
            f"{headline_text(found)}; chance is {chance}."
        )
        if found["underpowered"]:
            sentences.append(
                "The attackers are too weak for any claim; a stronger one may recover it more "
                "often."
            )
        elif not found["claim"]:
            sentences.append("No bound is claimed; the privacy card gives the reasons.")
    elif results["privacy"].get("classes", 1):
        sentences.append(f"The leakage of {name} was not measured.")
    known = audit or cast(Audit, {})
    if recovered := recovery(known):
        sentences.append(sentence(recovered))
    if told := above_chance_note(known):
        sentences.append(sentence(told))
    if audit and audit.get("contradictions"):
        sentences.insert(0, "THE AUDIT CONTRADICTS A CLAIM.")
    return " ".join(sentences)


def _epsilon_sentence(dp: Mapping[str, Any]) -> str:
    released = _released(dp)
    if dp.get("void"):
        return f"No privacy guarantee holds: {dp['void_reason']}."
    if released:
        return (
            f"The released weights of {listed(list(released))} together have epsilon "
            f"{epsilon(max(released.values()))} at delta {dp['delta']:g}, for one image. "
            f"{sentence(WEIGHTS_ONLY)}"
        )
    conditional = _conditional(dp)
    if conditional is None:
        return (
            "No released weights have an epsilon, so nothing bounds what they reveal about a "
            "training image."
        )
    told = sentence(_CONDITIONAL.format(_at_delta(dp, conditional)))
    return f"No released weights have an epsilon. {told}"


def _at_delta(dp: Mapping[str, Any], conditional: float) -> str:
    return f"{epsilon(conditional)} at delta {dp['delta']:g}"
