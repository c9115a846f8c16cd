"""Canaries on the shipped update: what comes back is the clipped sum plus the noise that is due."""

import numpy as np
import pytest
from scipy import stats

from tests.evaluation.dp_audit.faults import clipping_off
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.dp_audit.bound import evidence
from tf_mtl_privacy.evaluation.dp_audit.canaries import (
    STRENGTH,
    scores_of_one_run,
    shipped_optimizer,
    whole_square,
)
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.keys import key_for_tests

COUNT, CLIP = 40**2, 0.3


def coins(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(COUNT) < 0.5


def projections(phase: MechanismRun, included: np.ndarray, **options) -> np.ndarray:
    """Sums over all updates, read back from the scores of unsampled updates."""
    z = phase.mechanism.noise_multiplier
    scores = scores_of_one_run(
        [phase],
        included,
        l2_norm_clip=CLIP,
        make_optimizer=shipped_optimizer,
        key=key_for_tests(1),
        **options,
    )
    return scores * z**2 + phase.exposures / 2


def test_without_noise_a_canary_that_is_in_counts_exactly_one():
    phase, included = MechanismRun(SampledGaussian(2.0, 1.0), 3), coins()
    found = projections(phase, included, noise_factor=0.0)
    np.testing.assert_allclose(found, 3.0 * included, atol=1e-5)


def test_with_clipping_off_it_counts_its_whole_length():
    with clipping_off():
        found = projections(MechanismRun(SampledGaussian(2.0, 1.0), 1), coins(), noise_factor=0.0)
    np.testing.assert_allclose(found, STRENGTH * coins(), atol=1e-4)


@pytest.mark.parametrize("clipping", ["ghost", "vectorized"])
def test_noise_has_the_deviation_that_is_claimed(clipping):
    z, steps, included = 2.0, 4, coins()
    phase = MechanismRun(SampledGaussian(z, 1.0), steps)
    if clipping == "vectorized":
        included = included[: 10**2]
    found = projections(phase, included, clipping=clipping)
    standard = (found - steps * included) / (z * np.sqrt(steps))
    assert stats.kstest(standard, "norm").pvalue > 1e-4
    tail = stats.chi2.cdf((standard**2).sum(), len(standard))
    assert 1e-4 < tail < 1 - 1e-4


def test_shuffled_epochs_read_each_canary_once_an_epoch():
    phase = MechanismRun(SampledGaussian(2.0, 0.2, SHUFFLED_EPOCHS), 10)
    found = projections(phase, coins(), noise_factor=0.0)
    np.testing.assert_allclose(found, 2.0 * coins(), atol=1e-5)


def test_poisson_batches_draw_those_that_are_in_with_the_run_s_probability():
    z, q, steps, included = 2.0, 0.3, 40, coins()
    scores = scores_of_one_run(
        [MechanismRun(SampledGaussian(z, q), steps)],
        included,
        l2_norm_clip=CLIP,
        noise_factor=0.0,
        make_optimizer=shipped_optimizer,
        key=key_for_tests(2),
    )
    there, away = evidence(np.array([1.0, 0.0]), z, q)
    draws = (scores - steps * away) / (there - away)
    np.testing.assert_allclose(draws, np.round(draws), atol=1e-3)
    assert np.abs(draws[~included]).max() < 1e-3
    total = round(draws.sum())
    assert stats.binomtest(total, steps * int(included.sum()), q).pvalue > 1e-4


def test_an_impossible_noise_is_refused_by_the_optimizer():
    with pytest.raises(UsageError, match="noise_multiplier"):
        projections(MechanismRun(SampledGaussian(2.0, 1.0), 1), coins(), noise_factor=-1.0)


def test_whole_squares():
    assert [whole_square(n) for n in (4, 8, 9, 10_000, 10_200)] == [4, 4, 9, 10_000, 10_000]
