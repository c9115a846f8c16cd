"""Puts readings together, as `privacy.probe` of results.json has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tf_mtl_privacy.evaluation.probes.attack import Reading, strongest
from tf_mtl_privacy.evaluation.probes.power import power

UNSEEN, OWN = "unseen", "own"


def target_summary(readings: Sequence[Reading], trained_on: str, rows: int) -> dict[str, Any]:
    """One target's figures.

    Args:
        readings: what each attacker read; at least one.
        trained_on: `UNSEEN` (rows that the encoder was not trained on) or `OWN` (that it was).
        rows: how many rows attackers learned from.

    Returns:
        `strongest` (`name`, `accuracy`, `balanced_accuracy`, `ci95`, `n`, on test rows; chosen on
        validation rows), `attackers` (name -> `accuracy`, `balanced_accuracy`), `trained_on`,
        `rows`.
    """
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
    """The figures of a target that nobody attacked."""
    return {"strongest": None, "reason": reason}


def probe_summary(
    setting: str,
    targets: Mapping[str, Mapping[str, Any]],
    removal_off: Mapping[str, Any] | None,
    seconds: float,
    before_game: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The whole of `privacy.probe`.

    Args:
        setting: 'fast' or 'thorough'.
        targets: target -> `target_summary` or `not_measured`.
        removal_off: the strongest on features of the run with removal off, or None.
        seconds: time spent, of the wall clock.
        before_game: what a check found before the joint phase (`fresh_probe_balanced_accuracy`).
    """
    checked = {name: _balanced(targets.get(name)) for name in ("pixels", "planted")}
    off = None if removal_off is None else removal_off["balanced_accuracy"]
    return {
        "setting": setting,
        "seconds": round(seconds, 1),
        **{name: dict(figures) for name, figures in targets.items()},
        "before_game": _before(before_game),
        "removal_off": {"strongest": None if removal_off is None else dict(removal_off)},
        **power({**checked, "removal_off": off}),
    }


def _before(figures: Mapping[str, float] | None) -> dict[str, Any]:
    found = (figures or {}).get("fresh_probe_balanced_accuracy")
    if found is None:
        return {"balanced_accuracy": None, "reason": "no check ran before the joint phase"}
    return {"balanced_accuracy": found}


def _balanced(target: Mapping[str, Any] | None) -> float | None:
    best = (target or {}).get("strongest")
    return None if best is None else float(best["balanced_accuracy"])
