"""Runs attackers on one target and chooses the strongest on validation rows."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from tf_mtl_privacy.evaluation import schema
from tf_mtl_privacy.evaluation.probes.bounds import pack
from tf_mtl_privacy.evaluation.probes.budget import ProbeBudget
from tf_mtl_privacy.evaluation.probes.data import Inputs, ProbeData, balanced_accuracy, figures
from tf_mtl_privacy.evaluation.probes.families import Attacker, reads_maps_only, starts_at_random
from tf_mtl_privacy.models.layers import layer_seed


@dataclasses.dataclass(frozen=True)
class Reading:
    """The result of one attacker.

    Attributes:
        name: the attacker.
        validation: balanced accuracy on validation rows, in [0, 1]; readings are chosen by it.
        test: figures on test rows; these are reported.
        rows: number of training rows; 0 where unknown.
        right: the test rows classified correctly, see `bounds.pack`; empty where unknown.
        starts: balanced accuracy on test rows of each random start, in order.
    """

    name: str
    validation: float
    test: schema.Reading
    rows: int = 0
    right: str = ""
    starts: tuple[float, ...] = ()

    @property
    def named(self) -> schema.NamedReading:
        """The figures on test rows with the attacker's name."""
        return cast(schema.NamedReading, {"name": self.name, **self.test})


# (name of an attempt, function that makes it) -> its reading.
Remember = Callable[[str, Callable[[], Reading]], Reading]


def forget(key: str, make: Callable[[], Reading]) -> Reading:
    """Runs each attempt; `probe_cache.KeptReadings` looks up cached results instead."""
    return make()


def attack(
    data: ProbeData,
    names: Sequence[str],
    known: Mapping[str, Attacker],
    budget: ProbeBudget,
    seed: int,
    done: Callable[[str], None] = lambda name: None,
    enough: float = math.inf,
    remember: Remember = forget,
) -> list[Reading]:
    """Returns the best restart of every attacker on validation rows; test labels only score.

    Args:
        data: the target's rows.
        names: the attackers; those that cannot read such rows are left out.
        known: name -> attacker, see `families.attackers`.
        budget: the attackers' budget.
        seed: of all random starts.
        done: called with an attacker's name when it has finished.
        enough: balanced accuracy on validation rows at which networks stop and no further attacker
            is trained; for reference targets, which only show the attackers' power.
        remember: makes an attempt or looks it up; called with the attacker's name and the number
            of its start.

    Raises:
        ValueError: none of the attackers can read such rows.
    """
    inputs = Inputs(data.blind(), budget.dimensions, seed)
    budget = dataclasses.replace(budget, enough=min(budget.enough, enough))
    readings: list[Reading] = []
    for name in names:
        if name in known and (data.train.ndim == 4 or not reads_maps_only(name)):
            restarts = budget.restarts if starts_at_random(name) else 1
            tries = []
            for k in range(restarts):
                # Seeds of renamed families stay, so that published figures can be reproduced.
                start_seed = layer_seed(seed, f"{schema.former_name(name)}/{k}")
                make = functools.partial(
                    _reading, name, known[name], inputs, data, budget, start_seed
                )
                tries.append(remember(f"{name}/{k}", make))
            starts = tuple(float(t.test["balanced_accuracy"]) for t in tries)
            readings.append(dataclasses.replace(strongest(tries), starts=starts))
            done(name)
            if readings[-1].validation >= enough:
                break
    if not readings:
        raise ValueError(f"expected an attacker that reads rows of shape {data.train.shape[1:]}")
    return readings


def strongest(readings: Sequence[Reading]) -> Reading:
    """Returns the reading with the highest validation accuracy; the first on ties."""
    return max(readings, key=lambda reading: reading.validation)


def _reading(
    name: str, attacker: Attacker, inputs: Inputs, data: ProbeData, budget: ProbeBudget, seed: int
) -> Reading:
    scores = attacker(inputs, budget, seed)
    return Reading(
        name,
        balanced_accuracy(scores.validation, data.validation_labels),
        figures(scores.test, data.test_labels),
        len(data.train),
        pack(scores.test.argmax(axis=1) == data.test_labels),
    )
