"""Record of the noise of private updates, and its check wherever a stated epsilon is read.

Results, audits and cards name the noise that their private updates had (`noise`). Files of
versions before this record describe noise that was cut, so that no epsilon they state holds. All
readers of such files go through `checked_dp`, `checked_audit` or `checked_card`. No TensorFlow.

Reach of the noise generator, and the probability mass that lies beyond it. No TensorFlow.

Box and Muller's radius is sqrt(-2 ln u). A u of b random bits is never below 2^-b, so the radius
never exceeds sqrt(2 b ln 2), where that of an ideal normal pair does with probability exactly 2^-b.
An output beyond the reach tells for certain which row was there, so this mass belongs to delta.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Random bits in each radius. With 23 bits (float32 uniforms) the reach is 5.647 deviations.
RADIUS_BITS = 192
# Largest model that `UPDATE_TAIL` covers; `SecretNoise` refuses larger ones.
MAX_WEIGHTS = 2**33


def reach(bits: int = RADIUS_BITS) -> float:
    """Returns the largest radius, in standard deviations: sqrt(2 bits ln 2)."""
    return math.sqrt(2 * bits * math.log(2))


def tail_probability(weights: int, bits: int = RADIUS_BITS) -> float:
    """Returns the chance that any pair of an ideal draw lies beyond the reach (union bound).

    Args:
        weights: normal values in the draw, >= 0; two share a radius.
        bits: random bits in each radius, > 0.
    """
    return math.ldexp(-(-weights // 2), -bits)


# Per update, whatever the model: 2^-160.
UPDATE_TAIL = tail_probability(MAX_WEIGHTS)


# Name of what `SecretNoise` draws. A change that changes the accounting needs a new name.
NOISE = f"box_muller_{RADIUS_BITS}"
WHERE = "docs/accounting.md#results-with-noise-that-was-cut"
_CUT = f"noise cut at {reach(23):.2f} standard deviations"
# For ledgers of version 1, which count such updates.
CUT_LEDGER = (
    f"its updates have noise that is {_CUT.removeprefix('noise ')}, by an earlier version of this "
    f"package, and no epsilon holds for them: {WHERE}, train again in another --run_dir"
)
_FIGURES = ("epsilon_pld", "epsilon_rdp", "library_epsilon", "statement")
_CLAIMS = ("released", "conditional")


def withdrawn(epsilon: str, noise: Any) -> str:
    """Returns the line that replaces an epsilon.

    Args:
        epsilon: the stated figure in words, such as "epsilon 2".
        noise: the record of its noise; None where there is none.
    """
    what = _CUT if noise is None else f"noise that this version does not know ({noise!r})"
    return f"{epsilon} was stated with {what}; it does not hold: {WHERE}, train again"


def checked_dp(dp: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the `dp` section of results.json or training.json, void if its noise was not this.

    Args:
        dp: the stored section.

    Returns:
        The section. Where it states an epsilon and does not name `NOISE`, every epsilon is None,
        `void` is true, and `void_reason` and `reason` have the line of `withdrawn`.
    """
    if dp.get("void") or dp.get("noise") == NOISE:
        return dict(dp)
    released, conditional = dp.get("released"), dp.get("conditional")
    words = _words(released, conditional, dp.get("epsilon_pld"), dp.get("epsilon_rdp"))
    if not words:
        return dict(dp)
    person = (dp.get("person") or {}).get("epsilon_pld")
    if person is not None:
        words += f" (of a person {person:.5g})"
    reason = withdrawn(words, dp.get("noise"))
    return _without_figures(dp) | {"void": True, "void_reason": reason, "reason": f"void: {reason}"}


def checked_audit(audit: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of audit.json, its test of a claim withdrawn if noise was not this.

    What contradicts a claim stays: it shows that the claim is wrong, whatever else is.
    """
    found = audit.get("dp_audit")
    stated = (found or {}).get("claimed")
    if not found or stated is None or found.get("noise") == NOISE:
        return dict(audit)
    if found.get("verdict") == "contradicted":
        return dict(audit)
    reason = withdrawn(f"epsilon {stated:.5g}", found.get("noise"))
    changed = {"verdict": "no_claim", "claimed": None, "text": f"No claim to test: {reason}."}
    return {**audit, "dp_audit": {**found, **changed}}


def checked_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stored privacy card, its epsilon withdrawn if its noise was not this."""
    words = _words(card.get("released"), {"discriminator": card.get("conditional")})
    if not words or card.get("noise") == NOISE:
        return dict(card)
    reason = withdrawn(words, card.get("noise"))
    line = f"VOID, nothing is protected: {reason}"
    return {
        **card,
        "released": dict.fromkeys(card.get("released") or {}),
        "conditional": None,
        "void": reason,
        "claims": [line],
        "not_protected": [f"{line}.", *(card.get("not_protected") or ())],
        "summary": f"No privacy at all: {reason}. An earlier version wrote: {card.get('summary')}",
    }


def _words(released: Any, conditional: Any, *others: float | None) -> str:
    """Names the largest stated epsilon; empty where none is stated."""
    whole = [value for value in (released or {}).values() if value is not None]
    if whole:
        return f"epsilon {max(whole):.5g}"
    rest = [v for v in (*(conditional or {}).values(), *others) if v is not None]
    return f"conditional epsilon {rest[0]:.5g}" if rest else ""


def _without_figures(values: Mapping[str, Any], *, claims: bool = False) -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            changed[name] = _without_figures(value, claims=name in _CLAIMS)
        else:
            changed[name] = None if claims or name in _FIGURES else value
    return changed
