"""The privacy card: what is claimed of released weights, what was attacked, what is not protected.

It is data; `card_text.py` writes it down. The sentences are those of `privacy_lines.py`,
`privacy_text.py` and `attacker_lines.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.reporting.attacker_lines import headline_text
from tf_mtl_privacy.reporting.audit_findings import (
    audit_findings,
    audit_gaps,
    beyond_chance,
    gives_back,
)
from tf_mtl_privacy.reporting.formats import count, percent
from tf_mtl_privacy.reporting.membership_words import membership_gap, same_people_note, told_apart
from tf_mtl_privacy.reporting.privacy_lines import (
    WEIGHTS_ALONE,
    claim_lines,
    epsilon,
    reader_lines,
)
from tf_mtl_privacy.reporting.privacy_text import NOT_COVERED
from tf_mtl_privacy.reporting.reconcile_probes import (
    audit_is_of,
    given_away,
    leakage,
    reading_text,
)

RUN_DIR = "RUN_DIR"
_CONDITIONAL = (
    "the conditional epsilon {} protects nobody in the training set by itself: it is of the "
    "discriminator's updates alone, given the encoder's course, and no released weight has it"
)
_PASSES = {
    "grey": "",
    "mean": "three numbers per picture of what it covers",
    "colour": "two of three numbers of each covered pixel; a label in brightness would pass",
}


def privacy_card(
    results: Mapping[str, Any], audit: Mapping[str, Any] | None = None, run_dir: str = RUN_DIR
) -> dict[str, Any]:
    """The card of a run.

    Args:
        results: the content of results.json.
        audit: the content of audit.json, or None where nobody has audited the run. One that is not
            of this run (`reconcile_probes.audit_is_of`) counts as none.
        run_dir: the run's folder, for commands.

    Returns:
        JSON-ready: `released` (part -> epsilon, or null), `claims` (lines), `conditional` (epsilon
        of the discriminator's updates given the encoder, or null), `delta`, `adjacency`,
        `sampling`, `unit`, `noise` (as in results.json; null without an epsilon), `void` (why no
        epsilon holds, or null), `readers` (lines: who reads private labels outside of the
        accounting), `attacked` (list of `what`, `finding`), `not_attacked` (list of `what`, `why`),
        `not_protected` (sentences), `contradictions` (sentences of the audit) and `summary` (a few
        sentences).
    """
    other = audit is not None and not audit_is_of(results, audit)
    audit = None if other else audit
    dp, privacy = results["dp"], results["privacy"]
    found = leakage(results, audit)
    return {
        "released": dict(dp.get("released") or {}),
        "claims": claim_lines(dp),
        "conditional": (dp.get("conditional") or {}).get("discriminator"),
        **{name: dp.get(name) for name in ("delta", "adjacency", "sampling", "unit", "noise")},
        "void": dp.get("void_reason") if dp.get("void") else None,
        "readers": reader_lines(dp),
        "attacked": [
            {"what": what, "finding": finding}
            for what, finding in _ranked(results, found, audit or {})
        ],
        "not_attacked": [
            {"what": what, "why": why}
            for what, why in (*_gaps(privacy, found, run_dir), *_unaudited(audit, other, run_dir))
        ],
        "not_protected": [
            *_weights(dp),
            *_content(results),
            *_attackers(found),
            *_members(audit or {}),
            NOT_COVERED,
        ],
        "contradictions": list((audit or {}).get("contradictions") or ()),
        "summary": _summary(results, found, audit),
    }


def private_name(results: Mapping[str, Any]) -> str:
    """The private label in words: `the iris`, `who it is`, `the code of Eyeglasses, Young`."""
    label = Config.from_dict(results.get("config") or {}).data.effective_private_label
    if label == "identity":
        return "who it is"
    _, _, names = label.partition(":")
    return f"the code of {names.replace(',', ', ')}" if names else f"the {label}"


def _ranked(
    results: Mapping[str, Any], found: Mapping[str, Any] | None, audit: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yields everything that was found, of attackers of the private label and of the audit.

    The findings that give most away come first; see `audit_findings.Finding`.
    """
    about_label = [(_severity(results, entry), pair) for pair, entry in _read(results, found)]
    about_audit = [(finding.severity, finding[:2]) for finding in audit_findings(audit)]
    for _, (what, text) in sorted([*about_label, *about_audit], key=lambda pair: -pair[0]):
        yield what, text


def _severity(results: Mapping[str, Any], entry: Mapping[str, Any]) -> float:
    return beyond_chance(entry["upper"], results["privacy"].get("chance") or 0.0)


def _read(
    results: Mapping[str, Any], found: Mapping[str, Any] | None
) -> Iterator[tuple[tuple[str, str], Mapping[str, Any]]]:
    """Yields what fresh attackers read of the private label, and the entry that says it."""
    chance = percent(results["privacy"].get("chance"))
    if not found:
        return
    for words, entry in given_away(found):
        told = [text for text in found["told"] if text.startswith(f"{words}: ")]
        both = "".join(f"; {text.removeprefix(f'{words}: ')}" for text in told)
        finding = f"{reading_text(entry)}; chance {chance}{both}"
        yield (f"{private_name(results)}, from {words}", finding), entry


def _gaps(
    privacy: Mapping[str, Any], found: Mapping[str, Any] | None, run_dir: str
) -> Iterator[tuple[str, str]]:
    if not privacy.get("classes", 1):
        yield "the private label", "this data has none"
    elif not found or not found["worst"] or not found["setting"]:
        command = f"python -m tf_mtl_privacy.evaluate --run_dir={run_dir} --probe=fast"
        yield "fresh attackers of the private label", command


def _unaudited(
    audit: Mapping[str, Any] | None, other: bool, run_dir: str
) -> Iterator[tuple[str, str]]:
    command = f"python -m tf_mtl_privacy.audit --run_dir={run_dir} --setting=fast"
    if audit is not None:
        yield from audit_gaps(audit)
        yield from filter(None, [membership_gap(audit, command)])
        return
    stale = "the audit.json that lies there is of another run; " if other else ""
    yield "membership inference, inversion, the test of the claimed epsilon", stale + command


def _weights(dp: Mapping[str, Any]) -> Iterator[str]:
    bare = [part for part, figure in (dp.get("released") or {}).items() if figure is None]
    if bare:
        yield (
            f"The released weights of {_listed(bare)}: no epsilon bounds what they tell about a "
            "training picture."
        )
    conditional = (dp.get("conditional") or {}).get("discriminator")
    if conditional is not None:
        told = _CONDITIONAL.format(_shown(dp, conditional))
        yield f"{told[0].upper()}{told[1:]}."
    bounded = dp.get("max_images_per_person")
    if dp.get("epsilon_pld") is not None and not bounded:
        yield (
            "A person with several training pictures: epsilon is of one picture, and pictures per "
            "person were not bounded (--max_images_per_person)."
        )
    if dp.get("unaccounted_label_access"):
        yield (
            "Private labels of training rows are read outside of every epsilon by: "
            f"{'; '.join(dp['unaccounted_label_access'])}."
        )


def _content(results: Mapping[str, Any]) -> Iterator[str]:
    """Names the information that the features are meant to carry."""
    yield (
        f"{_listed(list(results['utility']))}: what the features are made to say, about everybody "
        "whose picture is put in."
    )
    if results["privacy"].get("classes", 1):
        yield (
            f"Whatever a face tells beside {private_name(results)}: only that was to be kept out, "
            "and features and restored images may well say the rest."
        )
    passes = _PASSES.get(_option(results, "mask_fill"), "")
    if passes and (results.get("removal") or {}).get("mask") == "learned":
        yield f"Under the mask passes {passes} (--mask_fill={_option(results, 'mask_fill')})."


def _option(results: Mapping[str, Any], name: str) -> Any:
    return ((results.get("config") or {}).get("removal") or {}).get(name)


def _attackers(found: Mapping[str, Any] | None) -> Iterator[str]:
    if not found or not found["worst"]:
        return
    if not found["claim"]:
        yield f"No bound is claimed on what attackers read: {'; '.join(found['refused'])}."
        return
    rows = found["features"].get("rows")
    learned = f" (these learned from {count(rows)} pictures)" if rows else ""
    yield (
        "Against a stronger attacker than those sent here, or one with more pictures"
        f"{learned}: figures of attacks are no bound."
    )


def _members(audit: Mapping[str, Any]) -> Iterator[str]:
    """Names findings about people who were trained on."""
    yield from filter(None, [same_people_note(audit)])
    if told := told_apart(audit):
        yield f"That a picture was trained on: {told}."


def _summary(
    results: Mapping[str, Any], found: Mapping[str, Any] | None, audit: Mapping[str, Any] | None
) -> str:
    sentences = [_epsilon_sentence(results["dp"])]
    name, chance = private_name(results), percent(results["privacy"].get("chance"))
    if found and found["worst"]:
        sentences.append(
            f"The strongest fresh attacker reads {name} with an accuracy of "
            f"{headline_text(found)}; chance is {chance}."
        )
        if found["underpowered"]:
            sentences.append(
                "The attackers are too weak for any claim; a stronger one may read more often."
            )
        elif not found["claim"]:
            sentences.append("No bound is claimed; see what is not protected.")
    elif results["privacy"].get("classes", 1):
        sentences.append(f"Nobody has measured how well {name} can be read.")
    if back := gives_back(audit or {}):
        sentences.append(f"{back[0].upper()}{back[1:]}.")
    if told := told_apart(audit or {}):
        sentences.append(f"{told[0].upper()}{told[1:]}.")
    if audit and audit.get("contradictions"):
        sentences.insert(0, "THE AUDIT CONTRADICTS A CLAIM.")
    return " ".join(sentences)


def _epsilon_sentence(dp: Mapping[str, Any]) -> str:
    released = {p: value for p, value in (dp.get("released") or {}).items() if value is not None}
    if dp.get("void"):
        return f"No privacy at all: {dp['void_reason']}."
    if released:
        return (
            f"The released weights of {_listed(list(released))} together have epsilon "
            f"{epsilon(max(released.values()))} at delta {dp['delta']:g}, for one picture. "
            f"{WEIGHTS_ALONE[0].upper()}{WEIGHTS_ALONE[1:]}."
        )
    conditional = (dp.get("conditional") or {}).get("discriminator")
    if conditional is None:
        return (
            "No released weight has an epsilon, so nothing bounds what the weights tell about a "
            "training picture."
        )
    return f"No released weight has an epsilon; {_CONDITIONAL.format(_shown(dp, conditional))}."


def _shown(dp: Mapping[str, Any], conditional: float) -> str:
    return f"{epsilon(conditional)} at delta {dp['delta']:g}"


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
