"""Mechanisms that are accounted for, and closed-form rules of noise, steps and delta.

Loads no dp-accounting, because the ledger and a command's help must start at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.noise_record import UPDATE_TAIL

# Share of the target below which an epsilon is reported: it needed more noise than the target.
FAR_BELOW = 0.98

POISSON, SHUFFLED_EPOCHS = "poisson", "shuffled_epochs"
# All but Poisson sampling counts as `MechanismRun.exposures` full sums, without amplification.
SAMPLINGS = (POISSON, SHUFFLED_EPOCHS)
# Below this the numerical convolutions of the PLD accountant are not exact enough.
SMALLEST_DELTA = 1e-10


@dataclasses.dataclass(frozen=True)
class SampledGaussian:
    """One update of DP-SGD: clipped sum over a sampled batch plus Gaussian noise.

    Attributes:
        noise_multiplier: z, noise standard deviation over clip norm, >= 0 (0 has no epsilon).
        sampling_probability: q in (0, 1]; for shuffled epochs batch size over rows.
        sampling: "poisson", or "shuffled_epochs" (no amplification: see `MechanismRun.exposures`).
        rows: N, public upper bound on the rows of the table. 0 means unknown.
        overflow_probability: probability that a Poisson batch is full and loses rows, in [0, 1).
    """

    noise_multiplier: float
    sampling_probability: float
    sampling: str = POISSON
    rows: int = 0
    overflow_probability: float = 0.0

    def __post_init__(self) -> None:
        if not (self.noise_multiplier >= 0 and math.isfinite(self.noise_multiplier)):
            raise UsageError(f"noise_multiplier={self.noise_multiplier}: expected >= 0")
        if not 0 < self.sampling_probability <= 1:
            raise UsageError(
                f"sampling_probability={self.sampling_probability}: expected in (0, 1]; is the "
                "batch larger than the table?"
            )
        if self.sampling not in SAMPLINGS:
            raise UsageError(f"sampling={self.sampling!r}: expected {' or '.join(SAMPLINGS)}")
        if self.rows < 0 or not 0 <= self.overflow_probability < 1:
            raise UsageError(
                f"rows={self.rows}, overflow_probability={self.overflow_probability}: expected "
                "rows >= 0 and a probability in [0, 1)"
            )

    @property
    def steps_per_epoch(self) -> int:
        """1/q, rounded up."""
        return steps_per_epoch(self.sampling_probability)


@dataclasses.dataclass(frozen=True)
class MechanismRun:
    """A number of updates of one mechanism.

    Attributes:
        mechanism: the update.
        steps: updates that ran (or count as run), >= 0.
        passes: for shuffled epochs, how often a row may have been used; by default steps over
            steps per epoch, rounded up. An interrupted run repeats rows and has more.
    """

    mechanism: SampledGaussian
    steps: int
    passes: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 0 or (self.passes is not None and self.passes < 0):
            raise UsageError(f"steps={self.steps}, passes={self.passes}: expected >= 0")

    @property
    def exposures(self) -> int:
        """Noisy sums that a row may be part of: all with Poisson sampling, else one per pass."""
        if self.mechanism.sampling == POISSON:
            return self.steps
        if self.passes is not None:
            return self.passes
        return -(-self.steps // self.mechanism.steps_per_epoch)

    @property
    def overflow(self) -> float:
        """Probability that any of its batches lost rows (union bound)."""
        return min(1.0, self.steps * self.mechanism.overflow_probability)

    @property
    def departure(self) -> float:
        """Probability that any update differs from the ideal mechanism (union bound).

        Either its batch lost rows, or ideal noise would have been beyond the generator's reach.
        """
        return min(1.0, self.steps * (self.mechanism.overflow_probability + UPDATE_TAIL))


def steps_per_epoch(sampling_probability: float) -> int:
    """Returns the steps in which a row is drawn once on average: 1/q, rounded up."""
    # The division may end a rounding error above a whole number.
    return max(1, math.ceil(1.0 / sampling_probability - 1e-9))


def planned_steps(epochs: float, sampling_probability: float) -> int:
    """Returns the updates of a number of epochs, in training and in the calculator.

    Each epoch has `steps_per_epoch` updates; a fraction of an epoch is rounded up.

    Args:
        epochs: >= 0.
        sampling_probability: q in (0, 1].
    """
    steps = math.ceil(epochs * steps_per_epoch(sampling_probability) - 1e-9)
    return max(steps, 1) if epochs > 0 else 0


def adjacency(phases: Sequence[MechanismRun]) -> str:
    """Names the pairs of data sets that the epsilon compares.

    "add_or_remove_one": with and without a row. With shuffled epochs, removing a row would move
    others into other batches, so a row is replaced by an empty one: "zero_out_one".
    """
    shuffled = any(phase.mechanism.sampling == SHUFFLED_EPOCHS for phase in phases if phase.steps)
    return "zero_out_one" if shuffled else "add_or_remove_one"


def merged_noise(noise_multipliers: Sequence[float]) -> float:
    """Returns the noise multiplier of several Gaussian mechanisms on the same batch.

    z = (sum z_i^-2)^(-1/2): they are one Gaussian mechanism on the concatenated gradients, each
    divided by its own clip norm and noise. They must be accounted for as this one event, sampled
    once; accounting for each separately assumes separate batches.

    Args:
        noise_multipliers: each > 0, at least one.

    Raises:
        UsageError: none given, or one is not positive.
    """
    if not noise_multipliers or not all(z > 0 for z in noise_multipliers):
        raise UsageError(f"noise multipliers {list(noise_multipliers)}: expected each > 0")
    return sum(z**-2 for z in noise_multipliers) ** -0.5


def largest_delta(rows: int) -> float:
    """Returns min(1e-5, 1/(2N)), or 1e-5 without N: a larger delta would allow releasing rows."""
    return min(1e-5, 0.5 / rows) if rows else 1e-5


def check_delta(delta: float, rows: int) -> None:
    """Refuses a delta that is too large for `rows` rows, or too small to compute with.

    Raises:
        UsageError: it is above min(1e-5, 1/(2N)) or below 1e-10.
    """
    largest = largest_delta(rows)
    # A delta copied from a printed 1/(2N) may be off in its last digit.
    if not delta <= largest * (1 + 1e-9):
        reason = f", which is 1/(2N) for {rows:,} rows" if largest < 1e-5 else ""
        raise UsageError(f"--delta={delta:g}: expected at most {largest:.3g}{reason}")
    if delta < SMALLEST_DELTA:
        raise UsageError(
            f"--delta={delta:g}: expected at least {SMALLEST_DELTA:g}; below it the accounting's "
            "numbers are not exact enough"
        )


def paper_noise(epsilon: float, delta: float) -> float:
    """Returns the noise multiplier of the textbook rule for a single step.

    sqrt(2 ln(1.25/delta)) / epsilon (Dwork and Roth 2014, theorem A.1), proven for epsilon < 1. A
    reference only: it ignores composition and sampling.
    """
    return math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def paper_epsilon(noise_multiplier: float, delta: float) -> float:
    """Returns the epsilon of a single step by `paper_noise`; infinite without noise."""
    return paper_noise(noise_multiplier, delta) if noise_multiplier else math.inf


def capacity_bits(entries: int, deviation: float, draws: int = 1) -> float:
    """Bounds the bits of information about an input in its noisy features of power 1 per entry.

    `entries / 2 * log2(1 + draws / deviation^2)`: the capacity of parallel Gaussian channels with
    a common power constraint (Cover and Thomas, "Elements of Information Theory", sections 9.1
    and 9.4; equal noise, so equal shares are best). It bounds the mutual information of features
    and input, hence of features and any label, whatever the encoder is. It grows with every
    further draw for the same input, because their mean has less noise.

    The bound is for ideal noise. Float32 noise lies on a lattice: with the encoder and a list of
    candidate inputs, the last bits may reveal which of them it was.

    Args:
        entries: numbers in the features of one input, >= 1.
        deviation: standard deviation of the noise, >= 0; without noise there is no bound (inf).
        draws: number of releases of the features of the same input, >= 1.

    Raises:
        ValueError: a number out of range.
    """
    if entries < 1 or draws < 1 or not deviation >= 0.0:
        raise ValueError(
            f"Expected entries={entries} >= 1, draws={draws} >= 1, deviation={deviation} >= 0"
        )
    if deviation == 0.0:
        return math.inf
    return 0.5 * entries * math.log2(1.0 + draws / deviation**2)
