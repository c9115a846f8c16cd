"""Name and reach of the noise, and the withdrawal of epsilons stated for other noise.

Results, audits and cards record the `noise` of their private updates. Files of earlier versions
describe noise that was cut off, so none of the epsilons they state holds. Every reader of such
files uses `checked_dp`, `checked_audit` or `checked_card`.

Box and Muller's radius is sqrt(-2 ln u). A u of b random bits is never below 2^-b, so the radius
never exceeds sqrt(2 b ln 2), while that of an ideal normal pair does with probability exactly 2^-b.
An output beyond this reach would reveal a row with certainty, so its probability is part of delta.

Loads no TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

# Random bits in each radius. With 23 bits (float32 uniforms) the reach was 5.647 deviations.
RADIUS_BITS = 192
# Largest model that `UPDATE_TAIL` covers; `SecretNoise` refuses larger ones.
MAX_WEIGHTS = 2**33


def reach(bits: int = RADIUS_BITS) -> float:
    """Returns the largest radius, in standard deviations: sqrt(2 bits ln 2)."""
    return math.sqrt(2 * bits * math.log(2))


def tail_probability(weights: int, bits: int = RADIUS_BITS) -> float:
    """Returns the probability that any pair of an ideal draw is beyond the reach (union bound).

    Args:
        weights: normal values in the draw, >= 0; two share a radius.
        bits: random bits in each radius, > 0.
    """
    return math.ldexp(-(-weights // 2), -bits)


# For one update of any model: 2^-160.
UPDATE_TAIL = tail_probability(MAX_WEIGHTS)


# Name of the noise of `SecretNoise`; any change that affects accounting needs a new name.
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
    """Returns the text that replaces an epsilon.

    Args:
        epsilon: the stated figure in words, such as "epsilon 2".
        noise: the record of its noise, or None.
    """
    kind = _CUT if noise is None else f"noise that this version does not know ({noise!r})"
    return f"{epsilon} was stated with {kind}; it does not hold: {WHERE}, train again"


def checked_dp(dp: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stored `dp` section of results.json or training.json; voids it for other noise.

    If the section states an epsilon and does not name `NOISE`, every epsilon becomes None, `void`
    is true, and `void_reason` and `reason` contain the text of `withdrawn`.
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
    """Returns the content of audit.json; withdraws its test of a claim for other noise.

    A contradicted claim stays, because the contradiction holds regardless of the noise.
    """
    result = audit.get("dp_audit") or {}
    stated, verdict = result.get("claimed"), result.get("verdict")
    if stated is None or result.get("noise") == NOISE or verdict == "contradicted":
        return dict(audit)
    reason = withdrawn(f"epsilon {stated:.5g}", result.get("noise"))
    changed = {"verdict": "no_claim", "claimed": None, "text": f"No claim to test: {reason}."}
    return {**audit, "dp_audit": {**result, **changed}}


def checked_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a stored privacy card; withdraws its epsilon for other noise."""
    words = _words(card.get("released"), {"discriminator": card.get("conditional")})
    if not words or card.get("noise") == NOISE:
        return dict(card)
    reason = withdrawn(words, card.get("noise"))
    line = f"VOID, no privacy guarantee holds: {reason}"
    return {
        **card,
        "released": dict.fromkeys(card.get("released") or {}),
        "conditional": None,
        "void": reason,
        "claims": [line],
        "not_protected": [f"{line}.", *(card.get("not_protected") or ())],
        "summary": f"No privacy guarantee holds: {reason}. An earlier version wrote: "
        f"{card.get('summary')}",
    }


def _words(released: Any, conditional: Any, *others: float | None) -> str:
    """Names the largest stated epsilon; empty if none is stated."""
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
