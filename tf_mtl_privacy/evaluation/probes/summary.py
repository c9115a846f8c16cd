"""Puts readings together, as `privacy.probe` of results.json has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tf_mtl_privacy.evaluation.probes.attack import Reading, strongest
from tf_mtl_privacy.evaluation.probes.bounds import Attack, bound, upper_end
from tf_mtl_privacy.evaluation.probes.curves import no_curve, no_patience
from tf_mtl_privacy.evaluation.probes.power import power

UNSEEN, OWN = "unseen", "own"
KINDS = (UNSEEN, OWN)
# Targets that belong to a run; the others are references, whose readings are not leakage.
OF_RUN = (
    "features",
    "restored",
    "logits",
    "regions",
    "features_and_regions",
    "masked_pictures",
    "one_draw",
    "noiseless",
)


@dataclasses.dataclass(frozen=True)
class KindReadings:
    """Readings of attackers who learned from one kind of rows.

    Attributes:
        readings: one for each attacker, at least one.
        rows: how many rows they learned from.
    """

    readings: Sequence[Reading]
    rows: int


def target_summary(readings: Sequence[Reading], trained_on: str, rows: int) -> dict[str, Any]:
    """Returns the figures of a target that was attacked from one kind of rows.

    Args:
        readings: one for each attacker; at least one.
        trained_on: `UNSEEN` (rows that the encoder was not trained on) or `OWN` (that it was).
        rows: how many rows attackers learned from.

    Returns:
        As `joined_summary`; the other kind of rows is not in `by_rows`.
    """
    return joined_summary({trained_on: KindReadings(readings, rows)}, {})


def joined_summary(found: Mapping[str, KindReadings], missing: Mapping[str, str]) -> dict[str, Any]:
    """Returns one target's figures from all kinds of rows.

    Args:
        found: kind of rows (`UNSEEN`, `OWN`) -> readings; at least one kind.
        missing: kind of rows -> the reason why nobody learned from them.

    Returns:
        Of the kind that reads more, by the higher upper end of the strongest attacker's intervals:
        `strongest` (`name`, `accuracy`, `balanced_accuracy`, `ci95`, `balanced_ci95`, `n`, on test
        rows; chosen on validation rows), `attackers` (name -> `accuracy`, `balanced_accuracy`),
        `trained_on`, `rows`. `by_rows`: the same of each kind, or `not_measured`. `bound`: see
        `bounds.bound`, over all attackers of all kinds.
    """
    parts = {kind: _of_kind(part.readings, kind, part.rows) for kind, part in found.items()}
    top = max(parts.values(), key=lambda part: upper_end(part["strongest"]))
    attacks = [Attack(r.name, kind, r.test) for kind, part in found.items() for r in part.readings]
    return {
        **top,
        "by_rows": {**{kind: not_measured(why) for kind, why in missing.items()}, **parts},
        "bound": bound(attacks),
    }


def _of_kind(readings: Sequence[Reading], trained_on: str, rows: int) -> dict[str, Any]:
    best = strongest(readings)
    return {
        "strongest": {"name": best.name, **best.test},
        "attackers": {
            reading.name: {name: reading.test[name] for name in ("accuracy", "balanced_accuracy")}
            for reading in readings
        },
        "trained_on": trained_on,
        "rows": rows,
    }


def not_measured(reason: str) -> dict[str, Any]:
    """Returns the figures of a target that nobody attacked."""
    return {"strongest": None, "reason": reason}


def probe_summary(
    setting: str,
    targets: Mapping[str, Mapping[str, Any]],
    removal_off: Mapping[str, Any] | None,
    seconds: float,
    before_game: Mapping[str, float] | None = None,
    *,
    classes: int | None = None,
    game: bool = False,
) -> dict[str, Any]:
    """Returns the whole of `privacy.probe`.

    Args:
        setting: 'fast' or 'thorough'.
        targets: target -> `joined_summary` or `not_measured`.
        removal_off: the strongest on features of the run with removal off, or None.
        seconds: time spent, of the wall clock.
        before_game: figures of a check before the joint phase (`fresh_probe_balanced_accuracy`).
        classes: K of the private label; None where it is not known.
        game: whether the encoder was trained against an adversary.
    """
    checked = {name: _balanced(targets.get(name)) for name in ("pixels", "planted")}
    off = None if removal_off is None else removal_off["balanced_accuracy"]
    whole = {
        name: {**(_no_curves(name) if figures["strongest"] else {}), **figures}
        for name, figures in targets.items()
    }
    if "own" in whole.get("features", {}):
        # A part of `by_rows`, at the place where it was before there was `by_rows`.
        own = whole["features"]["own"]
        whole["features"]["own"] = {k: v for k, v in own.items() if k not in ("by_rows", "bound")}
    return {
        "setting": setting,
        "seconds": round(seconds, 1),
        **whole,
        "before_game": _before(before_game),
        "removal_off": {"strongest": None if removal_off is None else dict(removal_off)},
        **power(
            {**checked, "removal_off": off},
            {name: whole[name] for name in OF_RUN if name in whole},
            classes=classes,
            game=game,
        ),
    }


def _no_curves(name: str) -> dict[str, Any]:
    """The fields about curves of a target without any."""
    if name not in OF_RUN:
        return {}
    reason = "this setting does not train its strongest attacker on fewer rows"
    longer = no_patience("this setting does not train its attackers for longer")
    return {**no_curve(reason), **longer}


def _before(figures: Mapping[str, float] | None) -> dict[str, Any]:
    found = (figures or {}).get("fresh_probe_balanced_accuracy")
    if found is None:
        return {"balanced_accuracy": None, "reason": "no check ran before the joint phase"}
    return {"balanced_accuracy": found}


def _balanced(target: Mapping[str, Any] | None) -> float | None:
    best = (target or {}).get("strongest")
    return None if best is None else float(best["balanced_accuracy"])
