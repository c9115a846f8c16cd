"""Summary of one kind of update for the accounting calculator, and tensorflow-privacy's statement.

`library_statement` and `library_epsilon` load TensorFlow when they are called.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Mapping

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting import events
from tf_mtl_privacy.privacy.accounting.epsilon import (
    SEARCH,
    epsilon,
    replace_one_epsilon,
    why_infinite,
    why_no_less_noise,
)
from tf_mtl_privacy.privacy.accounting.events import MechanismRun


def summarize(
    phase: MechanismRun,
    delta: float,
    images_per_person: int = 0,
    points: int = 10,
    done: Callable[[], None] = lambda: None,
) -> Summary:
    """Computes a summary; all points but the last are up to 0.06 % above the exact epsilon.

    Args:
        phase: the updates.
        delta: see `check_delta`.
        images_per_person: largest number of examples of a person, 0 for no bound.
        points: rows of the table, >= 1.
        done: called `points` times, for a progress bar.

    Raises:
        UsageError: delta is out of range.
    """
    events.check_delta(delta, phase.mechanism.rows)
    table = []
    for number in range(1, points + 1):
        steps = -(-phase.steps * number // points)
        part = [dataclasses.replace(phase, steps=steps)]
        last = number == points
        pld = epsilon(part, delta) if last else epsilon(part, delta, interval=SEARCH)
        epochs = steps * phase.mechanism.sampling_probability
        table.append(Point(steps, epochs, pld, epsilon(part, delta, "rdp")))
        done()
    person = [
        epsilon([phase], delta, name, images_per_person=images_per_person)
        for name in ("pld", "rdp")
    ]
    replaced = replace_one_epsilon([phase], delta)
    infinite = {
        "epsilon_pld": (table[-1].epsilon_pld, 1),
        "epsilon_rdp": (table[-1].epsilon_rdp, 1),
        "replace_one": (replaced, 2),
        "person_pld": (person[0], images_per_person),
        "person_rdp": (person[1], images_per_person),
    }
    return Summary(
        phase=phase,
        delta=delta,
        adjacency=events.adjacency([phase]),
        epsilon_pld=table[-1].epsilon_pld,
        epsilon_rdp=table[-1].epsilon_rdp,
        replace_one=replaced,
        images_per_person=images_per_person,
        person_pld=person[0],
        person_rdp=person[1],
        paper_epsilon=events.paper_epsilon(phase.mechanism.noise_multiplier, delta),
        points=tuple(dict.fromkeys(table)),
        reasons={
            name: why_infinite([phase], delta, images)
            for name, (value, images) in infinite.items()
            if math.isinf(value)
        },
        bound=why_no_less_noise([phase], delta),
    )


@dataclasses.dataclass(frozen=True)
class Point:
    """Epsilon after a number of steps."""

    steps: int
    epochs: float
    epsilon_pld: float
    epsilon_rdp: float


@dataclasses.dataclass(frozen=True)
class Summary:
    """Privacy of one kind of update; every epsilon may be infinite.

    Attributes:
        phase: the updates.
        delta: delta at which every epsilon holds.
        adjacency: see `events.adjacency`.
        epsilon_pld: of one example, the tighter bound.
        epsilon_rdp: of one example.
        replace_one: epsilon of replacing one example by another.
        images_per_person: bound on the examples of a person; 0 for no bound.
        person_pld: epsilon of a person; infinite without a bound.
        person_rdp: the same by Renyi accounting.
        paper_epsilon: of a single step by the textbook rule, for reference.
        points: epsilon over steps.
        reasons: name of an infinite epsilon ("epsilon_pld", "epsilon_rdp", "replace_one",
            "person_pld" or "person_rdp") -> the reason; see `why_infinite`.
        bound: why no epsilon holds with less noise, if that decided the noise; else "".
    """

    phase: MechanismRun
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


def library_statement(
    phase: MechanismRun, delta: float, images_per_person: int = 0, accountant: str = "rdp"
) -> str:
    """Returns tensorflow-privacy's `compute_dp_sgd_privacy_statement` of a phase.

    Passes `used_microbatching=False`, because the library's default halves the noise.

    Args:
        phase: updates that ran; its mechanism's number of rows is known.
        delta: in (0, 1).
        images_per_person: largest number of rows of a person, 0 for no bound.
        accountant: "pld" or "rdp"; the library gives no person-level epsilon by PLD.

    Raises:
        UsageError: the number of rows is unknown, or nothing ran.
    """
    from tf_mtl_privacy.privacy.tfp import statement_library

    library = statement_library()
    rows, batch, epochs = _run(phase)
    return str(
        library.compute_dp_sgd_privacy_statement(
            rows,
            batch,
            num_epochs=epochs,
            noise_multiplier=phase.mechanism.noise_multiplier,
            delta=delta,
            used_microbatching=False,
            max_examples_per_user=images_per_person or None,
            accountant_type=library.AccountantType[accountant.upper()],
        )
    )


def library_epsilon(phase: MechanismRun, delta: float) -> float:
    """Returns the deprecated `compute_dp_sgd_privacy`: Poisson sampling, Renyi accounting.

    Raises:
        UsageError: the number of rows is unknown, or nothing ran.
    """
    from tf_mtl_privacy.privacy.tfp import statement_library

    rows, batch, epochs = _run(phase)
    library = statement_library()
    previous = logging.root.manager.disable
    # It logs a deprecation warning in every call.
    logging.disable(logging.WARNING)
    try:
        noise = phase.mechanism.noise_multiplier
        return float(library.compute_dp_sgd_privacy(rows, batch, noise, epochs, delta)[0])
    finally:
        logging.disable(previous)


def _run(phase: MechanismRun) -> tuple[int, float, float]:
    """Returns rows, expected batch size and epochs."""
    mechanism = phase.mechanism
    if not mechanism.rows or not phase.steps:
        raise UsageError("tensorflow-privacy's statement needs --rows and at least one step")
    batch = mechanism.sampling_probability * mechanism.rows
    whole = round(batch) if abs(batch - round(batch)) < 1e-6 else batch
    return mechanism.rows, whole, _epochs(phase.steps, mechanism.rows, whole)


def _epochs(steps: int, rows: int, batch: float) -> float:
    """Returns the shortest number of epochs that the library rounds up to exactly `steps`."""
    exact = steps * batch / rows
    # Half a step less is rounded up to `steps` despite rounding errors.
    for epochs in (*(round(exact, digits) for digits in range(12)), (steps - 0.5) * batch / rows):
        # The library's two functions do not divide in the same order.
        counts = math.ceil(epochs * rows / batch), math.ceil(epochs / (batch / rows))
        if epochs > 0 and counts == (steps, steps):
            break
    return epochs
