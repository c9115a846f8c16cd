"""Scores and guesses: likelihoods by SciPy, counts by hand, the plan against a fresh simulation."""

import numpy as np
import pytest
from scipy import stats

from tf_mtl_privacy.evaluation.dp_audit.bound import (
    Guesses,
    count_correct,
    epsilon_lower_bound,
    evidence,
    plan_guesses,
    simulated_scores,
)
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian


@pytest.mark.parametrize("z, q", [(1.0, 1.0), (2.5, 0.05), (0.3, 0.5)])
def test_evidence_is_the_log_likelihood_ratio(z, q):
    x = np.linspace(-3, 4, 29)
    inside = (1 - q) * stats.norm.pdf(x, 0, z) + q * stats.norm.pdf(x, 1, z)
    expected = np.log(inside / stats.norm.pdf(x, 0, z))
    np.testing.assert_allclose(evidence(x, z, q), expected, atol=1e-12)


def test_counts_by_hand():
    scores = np.array([0.1, 5.0, -2.0, 3.0, 0.0])
    included = np.array([False, True, True, False, False])
    # Highest two: rows 1 (in, right) and 3 (out, wrong); lowest: row 2 (in, wrong).
    assert count_correct(scores, included, Guesses(2, 1)) == 1
    assert count_correct(scores, included, Guesses(0, 2)) == 1
    assert count_correct(scores, included, Guesses(1, 0)) == 1
    assert count_correct(scores, included, Guesses(0, 0)) == 0


def test_the_plan_keeps_its_promise_on_other_draws():
    phases = [MechanismRun(SampledGaussian(2.0, 0.05), 100)]
    guesses, promised = plan_guesses(phases, 20_000, 1e-5, 0.95, seed=0)
    assert plan_guesses(phases, 20_000, 1e-5, 0.95, seed=0) == (guesses, promised)
    found = []
    for seed in range(1, 6):
        scores, included = simulated_scores(phases, 20_000, 0.5, seed)
        right = count_correct(scores, included, guesses)
        found.append(epsilon_lower_bound(20_000, guesses.total, right, 1e-5))
    # Hopeful by what choosing the largest of many adds, and no more than that.
    assert 0.7 * promised < np.mean(found) < 1.1 * promised


def test_few_canaries_still_have_a_plan():
    guesses, promised = plan_guesses(
        [MechanismRun(SampledGaussian(2.0, 1.0), 1)], 4, 1e-5, 0.95, seed=0
    )
    assert 0 < guesses.total <= 4 and promised == 0.0


def test_shuffled_epochs_are_seen_once_an_epoch():
    phase = MechanismRun(SampledGaussian(1e-3, 0.25, SHUFFLED_EPOCHS), 8)
    scores, included = simulated_scores([phase], 4_000, 0.0, 0)
    # Without noise twice log(p1/p0) = +-1/(2 z^2), for two epochs.
    np.testing.assert_allclose(scores, np.where(included, 1, -1) * 2 / (2 * 1e-6), rtol=1e-6)
