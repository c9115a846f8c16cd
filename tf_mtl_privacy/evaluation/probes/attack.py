"""Sends every attacker at one target; the strongest is chosen on validation rows."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tf_mtl_privacy.evaluation.probes.bounds import pack
from tf_mtl_privacy.evaluation.probes.budget import Setting
from tf_mtl_privacy.evaluation.probes.data import Inputs, ProbeData, balanced_accuracy, figures
from tf_mtl_privacy.evaluation.probes.families import Attacker, reads_maps_only, starts_at_random
from tf_mtl_privacy.models.layers import layer_seed


@dataclasses.dataclass(frozen=True)
class Reading:
    """The result of one attacker.

    Attributes:
        name: the attacker.
        validation: balanced accuracy on validation rows, in [0, 1]; readings are chosen by it.
        test: `accuracy`, `balanced_accuracy`, `ci95`, `balanced_ci95`, `n` on test rows; this is
            what is reported.
        rows: number of rows it was trained on; 0 where that is not known.
        right: the test rows that it classified correctly, see `bounds.pack`; empty where that is
            not known.
        starts: balanced accuracy on test rows of each random start, in their order.
    """

    name: str
    validation: float
    test: dict[str, Any]
    rows: int = 0
    right: str = ""
    starts: tuple[float, ...] = ()


# (name of an attempt, function that makes it) -> its reading.
Remember = Callable[[str, Callable[[], Reading]], Reading]


def forget(key: str, make: Callable[[], Reading]) -> Reading:
    """Makes each attempt anew; `kept.KeptReadings` looks it up instead."""
    return make()


def attack(
    data: ProbeData,
    names: Sequence[str],
    known: Mapping[str, Attacker],
    setting: Setting,
    seed: int,
    done: Callable[[str], None] = lambda name: None,
    enough: float = math.inf,
    remember: Remember = forget,
) -> list[Reading]:
    """Returns every attacker's best restart on validation rows; test labels only score.

    Args:
        data: the target's rows.
        names: the attackers; those that cannot read such rows are left out.
        known: name -> attacker, see `families.attackers`.
        setting: how hard they try.
        seed: of all random starts.
        done: called with an attacker's name when it has finished.
        enough: no further attacker is trained once one reads so much of the validation rows
            (balanced accuracy), and networks stop there; for targets that only show that attackers
            are able to read something.
        remember: makes an attempt or looks it up; called with the attacker's name and the number
            of its start.

    Raises:
        ValueError: none of the attackers can read such rows.
    """
    inputs = Inputs(data.blind(), setting.dimensions, seed)
    setting = dataclasses.replace(setting, enough=min(setting.enough, enough))
    found = []
    for name in names:
        if name in known and (data.train.ndim == 4 or not reads_maps_only(name)):
            restarts = setting.restarts if starts_at_random(name) else 1
            tries = []
            for k in range(restarts):
                start = f"{name}/{k}"
                make = functools.partial(
                    _reading, name, known[name], inputs, data, setting, layer_seed(seed, start)
                )
                tries.append(remember(start, make))
            starts = tuple(float(t.test["balanced_accuracy"]) for t in tries)
            found.append(dataclasses.replace(strongest(tries), starts=starts))
            done(name)
            if found[-1].validation >= enough:
                break
    if not found:
        raise ValueError(f"expected an attacker that reads rows of shape {data.train.shape[1:]}")
    return found


def strongest(readings: Sequence[Reading]) -> Reading:
    """Returns the first of those that read validation rows best."""
    return max(readings, key=lambda reading: reading.validation)


def _reading(
    name: str, attacker: Attacker, inputs: Inputs, data: ProbeData, setting: Setting, seed: int
) -> Reading:
    scores = attacker(inputs, setting, seed)
    return Reading(
        name,
        balanced_accuracy(scores.validation, data.validation_labels),
        figures(scores.test, data.test_labels),
        len(data.train),
        pack(scores.test.argmax(axis=1) == data.test_labels),
    )
