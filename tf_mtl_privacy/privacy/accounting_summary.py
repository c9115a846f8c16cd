"""Everything that the accounting calculator says about one kind of update, as numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

from tf_mtl_privacy.privacy import accounting_events as events
from tf_mtl_privacy.privacy.accounting import (
    SEARCH,
    epsilon,
    replace_one_epsilon,
    why_infinite,
    why_no_less_noise,
)
from tf_mtl_privacy.privacy.accounting_events import Phase


@dataclasses.dataclass(frozen=True)
class Point:
    """Epsilon after a number of steps."""

    steps: int
    epochs: float
    epsilon_pld: float
    epsilon_rdp: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `summarize` found; every epsilon may be infinite.

    Attributes:
        phase: the updates.
        delta: for which every epsilon holds.
        adjacency: see `accounting_events.adjacency`.
        epsilon_pld: of one image, the tighter bound.
        epsilon_rdp: of one image.
        replace_one: epsilon of replacing an image by another one.
        images_per_person: 0 where it is not bounded.
        person_pld: epsilon of a person; infinite where images are not bounded.
        person_rdp: the same by Renyi accounting.
        paper_epsilon: of ONE step by the paper's rule, a reference line.
        points: epsilon over steps.
        reasons: why an epsilon is infinite, by its name: "epsilon_pld", "epsilon_rdp",
            "replace_one", "person_pld" or "person_rdp"; see `why_infinite`.
        bound: why no epsilon holds with less noise, if that is what decided the noise; else "".
    """

    phase: Phase
    delta: float
    adjacency: str
    epsilon_pld: float
    epsilon_rdp: float
    replace_one: float
    images_per_person: int
    person_pld: float
    person_rdp: float
    paper_epsilon: float
    points: tuple[Point, ...]
    reasons: Mapping[str, str]
    bound: str


def summarize(
    phase: Phase,
    delta: float,
    images_per_person: int = 0,
    points: int = 10,
    done: Callable[[], None] = lambda: None,
) -> Summary:
    """Computes a summary; the points in between are up to 0.06 % above the exact epsilon.

    Args:
        phase: the updates.
        delta: see `check_delta`.
        images_per_person: most images of a person, 0 for no bound.
        points: rows of the table, >= 1.
        done: called `points` times, for a progress bar.

    Raises:
        UsageError: delta is out of range.
    """
    events.check_delta(delta, phase.mechanism.rows)
    found = []
    for number in range(1, points + 1):
        steps = -(-phase.steps * number // points)
        part = [dataclasses.replace(phase, steps=steps)]
        last = number == points
        pld = epsilon(part, delta) if last else epsilon(part, delta, interval=SEARCH)
        epochs = steps * phase.mechanism.sampling_probability
        found.append(Point(steps, epochs, pld, epsilon(part, delta, "rdp")))
        done()
    person = [
        epsilon([phase], delta, name, images_per_person=images_per_person)
        for name in ("pld", "rdp")
    ]
    replaced = replace_one_epsilon([phase], delta)
    infinite = {
        "epsilon_pld": (found[-1].epsilon_pld, 1),
        "epsilon_rdp": (found[-1].epsilon_rdp, 1),
        "replace_one": (replaced, 2),
        "person_pld": (person[0], images_per_person),
        "person_rdp": (person[1], images_per_person),
    }
    return Summary(
        phase=phase,
        delta=delta,
        adjacency=events.adjacency([phase]),
        epsilon_pld=found[-1].epsilon_pld,
        epsilon_rdp=found[-1].epsilon_rdp,
        replace_one=replaced,
        images_per_person=images_per_person,
        person_pld=person[0],
        person_rdp=person[1],
        paper_epsilon=events.paper_epsilon(phase.mechanism.noise_multiplier, delta),
        points=tuple(dict.fromkeys(found)),
        reasons={
            name: why_infinite([phase], delta, images)
            for name, (value, images) in infinite.items()
            if math.isinf(value)
        },
        bound=why_no_less_noise([phase], delta),
    )
