"""What is accounted for: a noisy update, how often it ran, and the rules that come before numbers.

No dp-accounting here: the ledger and a command's help use this and have to start at once.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.noise_record import UPDATE_TAIL

# An epsilon below this share of its target is reported: more noise was needed than for the target.
FAR_BELOW = 0.98

POISSON, SHUFFLED_EPOCHS = "poisson", "shuffled_epochs"
SAMPLINGS = (POISSON, SHUFFLED_EPOCHS)
# Below this the numerical convolutions of the PLD accountant are no longer exact enough.
SMALLEST_DELTA = 1e-10


@dataclasses.dataclass(frozen=True)
class SampledGaussian:
    """One update of DP-SGD: clipped sum over a sampled batch plus Gaussian noise.

    Attributes:
        noise_multiplier: z, noise standard deviation over clip norm, >= 0 (0 has no epsilon).
        sampling_probability: q in (0, 1]; for shuffled epochs batch size over rows.
        sampling: "poisson", or "shuffled_epochs" (no amplification: see `Phase.exposures`).
        rows: N, most rows of the table; public. 0 means unknown.
        overflow_probability: chance that a Poisson batch loses rows for want of places, in [0, 1).
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
        steps: how many ran (or count as run), >= 0.
        passes: for shuffled epochs, how often a row may have been used; by default steps over
            steps per epoch, rounded up. An interrupted run goes over rows again and has more.
    """

    mechanism: SampledGaussian
    steps: int
    passes: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 0 or (self.passes is not None and self.passes < 0):
            raise UsageError(f"steps={self.steps}, passes={self.passes}: expected >= 0")

    @property
    def exposures(self) -> int:
        """How many noisy sums a row may be part of: all with Poisson sampling, one per epoch."""
        if self.mechanism.sampling == POISSON:
            return self.steps
        if self.passes is not None:
            return self.passes
        return -(-self.steps // self.mechanism.steps_per_epoch)

    @property
    def overflow(self) -> float:
        """Chance that any of its batches lost rows (union bound)."""
        return min(1.0, self.steps * self.mechanism.overflow_probability)

    @property
    def departure(self) -> float:
        """Chance that any update differs from the ideal mechanism (union bound).

        Either its batch lost rows, or its noise should have been beyond the generator's reach.
        """
        return min(1.0, self.steps * (self.mechanism.overflow_probability + UPDATE_TAIL))


def steps_per_epoch(sampling_probability: float) -> int:
    """Steps in which a row is drawn once on average: 1/q, rounded up."""
    # The division may end a rounding error above a whole number.
    return max(1, math.ceil(1.0 / sampling_probability - 1e-9))


def planned_steps(epochs: float, sampling_probability: float) -> int:
    """Returns the updates of so many epochs, as training takes them and the calculator counts them.

    Each epoch has `steps_per_epoch` updates; a part of one is rounded up.

    Args:
        epochs: >= 0.
        sampling_probability: q in (0, 1].
    """
    steps = math.ceil(epochs * steps_per_epoch(sampling_probability) - 1e-9)
    return max(steps, 1) if epochs > 0 else 0


def adjacency(phases: Sequence[MechanismRun]) -> str:
    """Which data sets the epsilon compares.

    "add_or_remove_one": a row is there or not. With shuffled epochs taking a row away would move
    others into other batches, so there a row is its values or an empty row: "zero_out_one".
    """
    shuffled = any(phase.mechanism.sampling == SHUFFLED_EPOCHS for phase in phases if phase.steps)
    return "zero_out_one" if shuffled else "add_or_remove_one"


def merged_noise(noise_multipliers: Sequence[float]) -> float:
    """The one noise multiplier of several Gaussian mechanisms on the same batch.

    z = (sum z_i^-2)^(-1/2): they are one Gaussian mechanism on the gradients side by side, each
    divided by its own clip norm and noise. They must be accounted for as this one event, sampled
    once; accounting for each by itself assumes batches of their own.

    Args:
        noise_multipliers: each > 0, at least one.

    Raises:
        UsageError: there is none, or one is not positive.
    """
    if not noise_multipliers or not all(z > 0 for z in noise_multipliers):
        raise UsageError(f"noise multipliers {list(noise_multipliers)}: expected each > 0")
    return sum(z**-2 for z in noise_multipliers) ** -0.5


def largest_delta(rows: int) -> float:
    """min(1e-5, 1/(2N)): a larger delta would allow giving whole rows away. Without N, 1e-5."""
    return min(1e-5, 0.5 / rows) if rows else 1e-5


def check_delta(delta: float, rows: int) -> None:
    """Refuses a delta that says too little about `rows` rows, or is too small to compute with.

    Raises:
        UsageError: it is above min(1e-5, 1/(2N)) or below 1e-10.
    """
    most = largest_delta(rows)
    # A delta copied from a printed 1/(2N) may be off in its last digit.
    if not delta <= most * (1 + 1e-9):
        reason = f", which is 1/(2N) for {rows:,} rows" if most < 1e-5 else ""
        raise UsageError(f"--delta={delta:g}: expected at most {most:.3g}{reason}")
    if delta < SMALLEST_DELTA:
        raise UsageError(
            f"--delta={delta:g}: expected at least {SMALLEST_DELTA:g}; below it the accounting's "
            "numbers are not exact enough"
        )


def paper_noise(epsilon: float, delta: float) -> float:
    """The paper's rule for one step, sqrt(2 ln(1.25/delta)) / epsilon, as a noise multiplier.

    A reference line only: it ignores composition and sampling, and is proven for epsilon < 1
    (Dwork and Roth 2014, theorem A.1).
    """
    return math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def paper_epsilon(noise_multiplier: float, delta: float) -> float:
    """The epsilon of one step by `paper_noise`; infinite without noise."""
    return paper_noise(noise_multiplier, delta) if noise_multiplier else math.inf
