"""tensorflow-privacy's own words on a phase. Calling them loads TensorFlow."""

from __future__ import annotations

import logging
import math

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting_events import Phase


def library_statement(
    phase: Phase, delta: float, images_per_person: int = 0, accountant: str = "rdp"
) -> str:
    """`compute_dp_sgd_privacy_statement` of a phase.

    The library is told that there were no microbatches: its default halves the noise.

    Args:
        phase: what ran; its mechanism's rows are known.
        delta: in (0, 1).
        images_per_person: most rows of a person, 0 where there is no bound.
        accountant: "pld" or "rdp"; the library gives no person-level epsilon by PLD.

    Raises:
        UsageError: the number of rows is not known, or nothing ran.
    """
    from tf_mtl_privacy.privacy.tfp import statement_library

    library = statement_library()
    return str(
        library.compute_dp_sgd_privacy_statement(
            *_run(phase)[:2],
            num_epochs=_run(phase)[2],
            noise_multiplier=phase.mechanism.noise_multiplier,
            delta=delta,
            used_microbatching=False,
            max_examples_per_user=images_per_person or None,
            accountant_type=library.AccountantType[accountant.upper()],
        )
    )


def library_epsilon(phase: Phase, delta: float) -> float:
    """The deprecated `compute_dp_sgd_privacy`: Poisson sampling assumed, Renyi accounting.

    Raises:
        UsageError: the number of rows is not known, or nothing ran.
    """
    from tf_mtl_privacy.privacy.tfp import statement_library

    rows, batch, epochs = _run(phase)
    library = statement_library()
    previous = logging.root.manager.disable
    # It warns that it is deprecated in every call; the docstring above says so once.
    logging.disable(logging.WARNING)
    try:
        noise = phase.mechanism.noise_multiplier
        return float(library.compute_dp_sgd_privacy(rows, batch, noise, epochs, delta)[0])
    finally:
        logging.disable(previous)


def _run(phase: Phase) -> tuple[int, float, float]:
    """Rows, expected batch size, epochs."""
    mechanism = phase.mechanism
    if not mechanism.rows or not phase.steps:
        raise UsageError("tensorflow-privacy's statement needs --rows and at least one step")
    batch = mechanism.sampling_probability * mechanism.rows
    whole = round(batch) if abs(batch - round(batch)) < 1e-6 else batch
    return mechanism.rows, whole, _epochs(phase.steps, mechanism.rows, whole)


def _epochs(steps: int, rows: int, batch: float) -> float:
    """The shortest number of epochs that the library rounds up to exactly this many steps."""
    exact = steps * batch / rows
    # Half a step less is rounded up to `steps` whatever the rounding errors.
    for epochs in (*(round(exact, digits) for digits in range(12)), (steps - 0.5) * batch / rows):
        # The library's two functions do not divide in the same order.
        counts = math.ceil(epochs * rows / batch), math.ceil(epochs / (batch / rows))
        if epochs > 0 and counts == (steps, steps):
            break
    return epochs
