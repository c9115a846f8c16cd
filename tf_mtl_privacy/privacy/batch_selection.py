"""Poisson sampling by row number, in batches of fixed capacity, and a bound on rows per person.

`PoissonBatches` draws the batches. `overflow_probability` and `capacity_for` choose a capacity that
is exceeded too rarely to affect epsilon. `limit_per_person` bounds the rows used per person.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.calibration import largest, renyi_calibrated
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import (
    POISSON,
    MechanismRun,
    SampledGaussian,
    merged_noise,
    steps_per_epoch,
)
from tf_mtl_privacy.privacy.keys import SecretKey

PADDING = -1


class PoissonBatches:
    """Puts each row into each step's batch independently with probability q, as accounting assumes.

    A batch has a fixed number of places; unused ones are padding. If more rows are drawn than
    there are places, surplus rows are dropped at random; the probability of this is
    `overflow_probability`, which the accounting adds to delta. An empty batch is an update of
    noise alone, and counts.

    A batch is a pure function of (key, epoch, step). The key is secret, one per phase, and new in
    every process: see keys.py.

    Args:
        rows: `[N]` int64 row numbers, N > 0, each once.
        sampling_probability: q in (0, 1]; batch_size / N gives batches of batch_size on average.
        capacity: places in a batch, > 0; by default the smallest that keeps the probability of an
            overflow at or below `overflow_probability`.
        overflow_probability: > 0; unused when a capacity is given.
        key: source of the draws.

    Raises:
        UsageError: no rows, a row given twice, or a number out of range.
    """

    def __init__(
        self,
        rows: np.ndarray,
        sampling_probability: float,
        capacity: int | None = None,
        overflow_probability: float = 1e-15,
        *,
        key: SecretKey,
    ) -> None:
        if len(rows) == 0:
            raise UsageError("Poisson sampling needs at least one row")
        if not 0 < sampling_probability <= 1:
            raise UsageError(f"sampling_probability={sampling_probability}: expected in (0, 1]")
        if capacity is None:
            if not 0 < overflow_probability < 1:
                raise UsageError(f"overflow_probability={overflow_probability}: expected in (0, 1)")
            capacity = capacity_for(len(rows), sampling_probability, overflow_probability)
        if capacity < 1:
            raise UsageError(f"capacity={capacity}: expected > 0")
        self._rows = np.asarray(rows, np.int64)
        if len(np.unique(self._rows)) != len(self._rows):
            raise UsageError(
                "Poisson sampling: a row number is given twice, which doubles its influence"
            )
        self._probability, self._capacity, self._key = sampling_probability, capacity, key

    @property
    def key(self) -> SecretKey:
        """Source of the draws: two samplers with one key and one q draw the same batches."""
        return self._key

    @property
    def steps_per_epoch(self) -> int:
        """Steps in which a row is drawn once on average: 1/q, rounded up."""
        return steps_per_epoch(self._probability)

    @property
    def capacity(self) -> int:
        """Places in a batch."""
        return self._capacity

    @property
    def expected_batch_size(self) -> float:
        """q * N: the divisor of the noisy sum, whatever the batch's actual size."""
        return self._probability * len(self._rows)

    @property
    def overflow_probability(self) -> float:
        """Exact probability that one batch overflows."""
        return upper_tail(self._capacity, len(self._rows), self._probability)

    def mechanism(self, *noise_multipliers: float) -> SampledGaussian:
        """Returns the mechanism that the accounting composes for updates on these batches.

        Args:
            noise_multipliers: one, or those of several updates on each batch, which are one event
                (`merged_noise`).
        """
        noise = noise_multipliers[0] if len(noise_multipliers) == 1 else None
        return SampledGaussian(
            noise_multiplier=merged_noise(noise_multipliers) if noise is None else noise,
            sampling_probability=self._probability,
            sampling=POISSON,
            rows=len(self._rows),
            overflow_probability=self.overflow_probability,
        )

    def batch(self, epoch: int, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns batch `step` of epoch `epoch`, both counted from 0.

        Returns:
            `(rows [capacity] int64, mask [capacity] bool)`; padding is at the end, with row -1 and
            mask False.
        """
        if not 0 <= step < self.steps_per_epoch or epoch < 0:
            raise IndexError(f"epoch {epoch}, step {step}: an epoch has {self.steps_per_epoch}")
        generator = self._key.generator(epoch, step)
        drawn = self._rows[generator.random(len(self._rows)) < _coin(self._probability)]
        if len(drawn) > self._capacity:
            drawn = generator.choice(drawn, self._capacity, replace=False, shuffle=False)
        rows = np.full(self._capacity, PADDING, np.int64)
        rows[: len(drawn)] = drawn
        return rows, rows != PADDING


def _coin(probability: float) -> float:
    """Returns the largest multiple of 2^-53 that is at most `probability`.

    A uniform draw of 53 bits is below this with exactly this probability, which does not exceed the
    accounted one. It would be below `probability` itself a little more often.
    """
    return math.floor(probability * 2.0**53) / 2.0**53


def check_own_batches(samplers: Mapping[str, object]) -> None:
    """Refuses two mechanisms that share the batches of one Poisson sampler.

    The accounting composes mechanisms as if each drew its own batches. Two updates on the same
    batch are one event with less noise; counted as two, their epsilon would be too small.

    Args:
        samplers: mechanism name -> its `PoissonBatches`; samplers of other kinds, whose epsilon
            assumes nothing about the draws, are ignored.

    Raises:
        UsageError: two of them are the same sampler, or draw from the same key.
    """
    seen: dict[str, PoissonBatches] = {}
    for name, sampler in samplers.items():
        if not isinstance(sampler, PoissonBatches):
            continue
        for other, earlier in seen.items():
            if sampler is earlier or sampler.key.same_as(earlier.key):
                raise UsageError(
                    f"{other} and {name} use the same Poisson batches: two mechanisms on one batch "
                    "are one event; account for both as one, mechanism(noise_1, noise_2), or give "
                    "each a sampler with its own key"
                )
        seen[name] = sampler


def limit_per_person(
    rows: np.ndarray,
    person: np.ndarray,
    max_rows: int,
    seed: int,
    *,
    names: np.ndarray | None = None,
) -> np.ndarray:
    """Keeps at most `max_rows` rows of each person, chosen once for the whole run.

    The choice depends on (seed, the row's name) alone, so removing one person from the data changes
    nothing for other people; it needs no secret. Epsilon is about data sets after this choice:
    before it, removing a chosen row lets in another row of the same person.

    Args:
        rows: `[N]` int64 row numbers, each once.
        person: `[N]` id of the row's person, >= 0.
        max_rows: > 0.
        seed: >= 0.
        names: `[N]` names that stay the same when other rows come or go, such as file names. By
            default the row numbers, which change if rows are renumbered.

    Returns:
        The row numbers that are kept, in their original order.

    Raises:
        UsageError: `max_rows` is not positive, or a row's person is unknown (negative).
    """
    rows, person = np.asarray(rows, np.int64), np.asarray(person)
    if max_rows < 1:
        raise UsageError(f"--max_images_per_person={max_rows}: expected > 0")
    if len(person) != len(rows):
        raise ValueError(f"Expected one person per row: {len(person)} for {len(rows)}")
    unknown = int((person < 0).sum())
    if unknown:
        raise UsageError(
            f"--max_images_per_person={max_rows}: {unknown} of {len(rows)} rows have no identity; "
            "leave the flag out or use data with identities"
        )
    order = np.lexsort((_scrambled(rows if names is None else names, seed), person))
    owners = person[order]
    first_of_its_person = np.searchsorted(owners, owners, side="left")
    place = np.arange(len(rows)) - first_of_its_person
    return rows[np.sort(order[place < max_rows])]


def _scrambled(names: np.ndarray, seed: int) -> np.ndarray:
    """Returns `[N]` uint64, BLAKE2b of each name with the seed as its key."""
    key = str(seed).encode()
    digests = (
        hashlib.blake2b(str(name).encode(), digest_size=8, key=key).digest() for name in names
    )
    return np.frombuffer(b"".join(digests), np.uint64)


# Range of k in 10^-k: a probability above 1e-15 would save few places; below 1e-300 every row has
# a place.
_MIN_EXPONENT, _MAX_EXPONENT = 15, 300


def overflow_probability(
    phases: Sequence[MechanismRun],
    delta: float,
    target_epsilon: float = 0.0,
    images_per_person: int = 1,
) -> float:
    """Chooses a power of ten that uses less than a ten-thousandth of delta at any stated epsilon.

    (1 + e^epsilon) * steps * P(overflow) is part of delta. Unused places cost nothing (batches are
    cut to their rows), so the choice is generous: it is made for three times the largest epsilon
    that will be stated, by Renyi accounting. This covers the epsilon of replacing a row, which is
    computed at delta / (1 + e^epsilon).

    Args:
        phases: the planned updates; their noise is used if there is no target.
        delta: delta at which epsilon will be stated.
        target_epsilon: target that their noise will be calibrated to; 0 if the noise is given.
        images_per_person: > 1 if a person's epsilon is stated, too.

    Returns:
        10^-k with k >= 15; 0 (a place for every row) below 1e-300.
    """
    planned = [phase for phase in phases if phase.steps]
    if not planned:
        return 10.0**-_MIN_EXPONENT
    if target_epsilon:
        # Renyi accounting needs up to a third more noise than PLD.
        planned = renyi_calibrated(planned, target_epsilon, delta, 0.75)
    people = max(images_per_person, 1)
    max_epsilon = epsilon(planned, delta, "rdp", images_per_person=people)
    steps = sum(phase.steps for phase in planned)
    log10 = (3 * max_epsilon + math.log(2e4 * steps / delta)) / math.log(10)
    return 10.0 ** -max(_MIN_EXPONENT, math.ceil(log10)) if log10 < _MAX_EXPONENT else 0.0


# Log-gamma of a million is good to about 1e-9 relative; the tail is rounded up by more than that.
_ROUND_UP = 1 + 1e-6


def upper_tail(count: int, trials: int, probability: float) -> float:
    """Computes P(X > count) for X ~ Binomial(trials, probability), summed term by term.

    Args:
        count: >= 0.
        trials: >= 0.
        probability: in (0, 1].

    Returns:
        The probability, not below the exact value and at most a millionth (relative) above it.
    """
    if count >= trials:
        return 0.0
    if probability == 1.0:
        return 1.0
    if count + 1 <= trials * probability:
        # Below the mean the terms of the upper tail grow; sum the shorter lower tail instead.
        lower = _sum_from(trials - count, trials, 1.0 - probability)
        return min(1.0, max(0.0, 1.0 - lower) * _ROUND_UP)
    return min(1.0, _sum_from(count + 1, trials, probability) * _ROUND_UP)


def capacity_for(trials: int, probability: float, overflow_probability: float) -> int:
    """Returns the smallest capacity that a binomial draw exceeds with at most this probability.

    Args:
        trials: rows, >= 1.
        probability: of each row, in (0, 1].
        overflow_probability: >= 0; 0 gives a place to each row.
    """

    def too_small(capacity: int) -> bool:
        return upper_tail(capacity, trials, probability) > overflow_probability

    return largest(too_small, trials) + 1


def _sum_from(first: int, trials: int, probability: float) -> float:
    """Computes P(X >= first) for `first` above the mean, so that the terms decrease."""
    log_term = (
        math.lgamma(trials + 1)
        - math.lgamma(first + 1)
        - math.lgamma(trials - first + 1)
        + first * math.log(probability)
        + (trials - first) * math.log1p(-probability)
    )
    odds = probability / (1.0 - probability)
    # Relative to the first term, so that a tail below 1e-308 does not stop the sum.
    relative, total = 1.0, 0.0
    for k in range(first, trials + 1):
        total += relative
        if relative < 1e-18 * total:
            break
        relative *= (trials - k) / (k + 1) * odds
    # Never rounded down to zero.
    return max(math.exp(log_term + math.log(total)), sys.float_info.min)
