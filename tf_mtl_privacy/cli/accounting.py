"""Command `accounting`: computes epsilon from noise, or noise from epsilon."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from tf_mtl_privacy.cli.options import CommonOptions, Parsed
from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import OK, UsageError
from tf_mtl_privacy.files import private_dir, write_atomic
from tf_mtl_privacy.tf_loading import load_tensorflow

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy.accounting.events import MechanismRun

_POINTS = 10


@dataclasses.dataclass(frozen=True)
class AccountingOptions(CommonOptions):
    """Options of `accounting`."""

    rows: int = option(0, "Number of training rows (images).", low=0)
    batch_size: int = option(0, "Expected rows per step; needs --rows.", low=0)
    sampling_probability: float = option(
        0.0,
        "Probability that a row is in a step's batch, instead of --batch_size.",
        low=0,
        high=1,
    )
    epochs: float = option(0.0, "Passes over the rows; or give --steps.", low=0)
    steps: int = option(0, "Number of updates; or give --epochs.", low=0)
    noise_multiplier: float = option(
        0.0, "Noise multiplier (standard deviation / clipping norm); prints its epsilon.", low=0
    )
    target_epsilon: float = option(
        0.0, "Target epsilon; prints the smallest noise multiplier that keeps it.", low=0
    )
    delta: float = option(
        0.0, "The delta of (epsilon, delta)-DP; 0 means min(1e-5, 1/(2 rows)).", low=0
    )
    max_images_per_person: int = option(
        0,
        "Maximum images of one person, for a person-level epsilon; 0 means no bound.",
        low=0,
    )
    sampling: str = option(
        "poisson", "How batches are drawn.", choices=("poisson", "shuffled_epochs")
    )
    overflow_probability: float = option(
        0.0,
        "Probability that a batch exceeds its fixed capacity, which is added to delta; 0 chooses "
        "one so small that it changes no epsilon.",
        low=0,
        high=1,
    )
    plot: str = option("", "PNG file to write, with epsilon over steps.")
    statement: bool = option(False, "Also print tensorflow-privacy's statement; slower.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for one, other in (
            ("batch_size", "sampling_probability"),
            ("epochs", "steps"),
            ("noise_multiplier", "target_epsilon"),
        ):
            given = [name for name in (one, other) if getattr(self, name)]
            if len(given) != 1:
                expected = "only one of them" if given else "one of them, with a value > 0"
                raise UsageError(f"--{one}, --{other}: expected {expected}")
        if self.batch_size > self.rows:
            bound = f"at most --rows={self.rows}" if self.rows else "--rows as well"
            raise UsageError(f"--batch_size={self.batch_size}: expected {bound}")
        if self.statement and not self.rows:
            raise UsageError("--statement requires --rows")


def main(parsed: Parsed) -> int:
    """Prints the answer; writes a plot if requested."""
    options: AccountingOptions = parsed.options
    if options.plot and not options.plot.endswith(".png"):
        raise UsageError(f"--plot={options.plot}: expected a name that ends in .png")
    # Imported here: it takes seconds, and help and wrong flags must answer before.
    from tf_mtl_privacy.privacy.accounting.events import check_delta, largest_delta

    delta = options.delta or largest_delta(options.rows)
    check_delta(delta, options.rows)
    updates = _updates(options, delta)

    from tf_mtl_privacy.privacy.accounting.statements import summarize
    from tf_mtl_privacy.progress import Progress
    from tf_mtl_privacy.reporting.formats import show
    from tf_mtl_privacy.reporting.sections.privacy import epsilon_text

    with Progress(_POINTS, "accounting", "values") as progress:
        summary = summarize(updates, delta, options.max_images_per_person, _POINTS, progress.update)
    show(epsilon_text(summary, options.target_epsilon))
    if options.statement:
        load_tensorflow()
        from tf_mtl_privacy.privacy.accounting.statements import library_statement

        show("\nStatement of tensorflow-privacy:\n")
        show(library_statement(updates, delta, options.max_images_per_person))
    if options.plot:
        from tf_mtl_privacy.reporting.charts import epsilon_plot

        if not Path(options.plot).parent.is_dir():
            private_dir(Path(options.plot).parent)
        write_atomic(options.plot, epsilon_plot(summary))
        show(f"\nPlot: {options.plot}")
    return OK


def _updates(options: AccountingOptions, delta: float) -> MechanismRun:
    """Returns the updates that the flags describe, with the given or the calibrated noise."""
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
    updates = MechanismRun(
        SampledGaussian(options.noise_multiplier or 1.0, probability, options.sampling, rows), steps
    )
    if rows and options.sampling == POISSON:
        from tf_mtl_privacy.privacy.batch_selection import overflow_probability

        chosen = options.overflow_probability or overflow_probability(
            [updates], delta, options.target_epsilon, options.max_images_per_person
        )
        tail = upper_tail(capacity_for(rows, probability, chosen), rows, probability)
        mechanism = dataclasses.replace(updates.mechanism, overflow_probability=tail)
        updates = dataclasses.replace(updates, mechanism=mechanism)
    if options.target_epsilon:
        from tf_mtl_privacy.privacy.accounting.calibration import calibrated

        updates = calibrated([updates], options.target_epsilon, delta)[0]
    return updates
