"""Epsilon of a run's private updates as they went on, out of its results alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.privacy.accounting import SEARCH, epsilon
from tf_mtl_privacy.privacy.accounting_events import POISSON, Mechanism, Phase
from tf_mtl_privacy.privacy.accounting_summary import Point

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
    done: list[Phase] = []
    at, delta = 0, dp["delta"]
    for names in _stretches(dp):
        whole = [_phase(dp["phases"][name]) for name in names]
        length = max(phase.steps for phase in whole)
        for k in range(1, points + 1 if length else 1):
            part = [*done, *(_part(phase, k, points) for phase in whole)]
            pld = epsilon(part, delta, interval=SEARCH)
            found.append(Point(at + length * k // points, 0.0, pld, epsilon(part, delta, "rdp")))
        done += whole
        at += length
    exact = {f"epsilon_{name}": dp["as_run"][f"epsilon_{name}"] for name in ("pld", "rdp")}
    return [*found[:-1], *(dataclasses.replace(point, **exact) for point in found[-1:])]


def _stretches(dp: Mapping[str, Any]) -> list[list[str]]:
    """Names of updates that are made together, in the order of the phases."""
    alone = [[name] for name in ("business", "discriminator", "restorer") if name in dp["phases"]]
    joint = [name for name in dp["phases"] if name.startswith(_JOINT)]
    return [*alone, joint] if joint else alone


def _phase(part: Mapping[str, Any]) -> Phase:
    names = (
        "noise_multiplier",
        "sampling_probability",
        "sampling",
        "rows",
        "overflow_probability",
    )
    return Phase(Mechanism(**{name: part[name] for name in names}), part["steps"])


def _part(phase: Phase, k: int, points: int) -> Phase:
    return dataclasses.replace(phase, steps=-(-phase.steps * k // points))
