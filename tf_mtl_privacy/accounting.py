"""Epsilon from noise, or noise from epsilon: `python -m tf_mtl_privacy.accounting`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from tf_mtl_privacy import cli
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import private_dir, write_atomic
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.reporting.formats import show
from tf_mtl_privacy.verbs import AccountingOptions

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy.accounting.events import MechanismRun

_POINTS = 10


def main(parsed: Parsed) -> int:
    """Computes and prints; writes a plot where one is asked for."""
    options = parsed.options
    if options.plot and not options.plot.endswith(".png"):
        raise UsageError(f"--plot={options.plot}: expected a name that ends in .png")
    # Loaded here, because it takes seconds: help and wrong flags must answer before.
    from tf_mtl_privacy.privacy.accounting.events import check_delta, largest_delta

    delta = options.delta or largest_delta(options.rows)
    check_delta(delta, options.rows)
    phase = _phase(options, delta)

    from tf_mtl_privacy.privacy.accounting.statements import summarize
    from tf_mtl_privacy.reporting.epsilon_lines import epsilon_text

    with Progress(_POINTS, "accounting", "values") as progress:
        summary = summarize(phase, delta, options.max_images_per_person, _POINTS, progress.update)
    show(epsilon_text(summary, options.target_epsilon))
    if options.statement:
        cli.load_tensorflow()
        from tf_mtl_privacy.privacy.accounting.statements import library_statement

        show("\ntensorflow-privacy says:\n")
        show(library_statement(phase, delta, options.max_images_per_person))
    if options.plot:
        from tf_mtl_privacy.reporting.charts import epsilon_plot

        if not Path(options.plot).parent.is_dir():
            private_dir(Path(options.plot).parent)
        write_atomic(options.plot, epsilon_plot(summary))
        show(f"\nPlot: {options.plot}")
    return cli.OK


def _phase(options: AccountingOptions, delta: float) -> MechanismRun:
    """Returns the updates that the flags describe, with the noise that was given or is found."""
    from tf_mtl_privacy.privacy.accounting.events import (
        POISSON,
        MechanismRun,
        SampledGaussian,
        planned_steps,
    )
    from tf_mtl_privacy.privacy.batch_selection import capacity_for, upper_tail

    probability, rows = options.sampling_probability, options.rows
    if options.batch_size:
        probability = options.batch_size / rows
    steps = options.steps or planned_steps(options.epochs, probability)
    phase = MechanismRun(
        SampledGaussian(options.noise_multiplier or 1.0, probability, options.sampling, rows), steps
    )
    if rows and options.sampling == POISSON:
        from tf_mtl_privacy.privacy.batch_selection import overflow_probability

        chosen = options.overflow_probability or overflow_probability(
            [phase], delta, options.target_epsilon, options.max_images_per_person
        )
        tail = upper_tail(capacity_for(rows, probability, chosen), rows, probability)
        mechanism = dataclasses.replace(phase.mechanism, overflow_probability=tail)
        phase = dataclasses.replace(phase, mechanism=mechanism)
    if options.target_epsilon:
        from tf_mtl_privacy.privacy.accounting.calibration import calibrated

        phase = calibrated([phase], options.target_epsilon, delta)[0]
    return phase


if __name__ == "__main__":
    cli.run("accounting", main)
