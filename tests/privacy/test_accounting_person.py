"""Epsilon of a person with several images, against numerical integration."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import logsumexp
from scipy.stats import binom, norm

from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.accounting.pld import group_pld, hockey_stick, mixture_loss
from tf_mtl_privacy.privacy.accounting.rdp import (
    _group_bound,
    _group_integral,
    _orders,
    _sampled_gaussian,
)

DELTA = 1e-5


def densities(m, q, z):
    def mixture(x):
        return sum(binom.pmf(k, m, q) * norm.pdf(x, k, z) for k in range(m + 1))

    return mixture, lambda x: norm.pdf(x, 0, z)


@pytest.mark.parametrize(("m", "q", "z"), [(1, 0.2, 1.0), (3, 0.1, 0.8), (4, 0.5, 2.0)])
@pytest.mark.parametrize("removed", [True, False])
def test_hockey_stick_is_the_integral(m, q, z, removed):
    mixture, plain = densities(m, q, z)
    upper, lower = (mixture, plain) if removed else (plain, mixture)
    epsilons = np.array([-0.5, -0.05, 0.1, 0.8])
    found = hockey_stick(epsilons, m, q, z, removed)
    for eps, delta in zip(epsilons, found, strict=True):
        exact = quad(
            lambda x, e=eps: max(upper(x) - math.exp(e) * lower(x), 0),
            -12 * z,
            m + 12 * z,
            limit=400,
            points=np.linspace(-2, m + 2, 9),
        )[0]
        assert delta == pytest.approx(exact, abs=1e-8)
    assert (np.diff(found) <= 0).all()


def test_the_loss_is_the_ratio_of_the_densities():
    mixture, plain = densities(3, 0.1, 0.8)
    x = np.array([-2.0, 0.0, 1.5, 5.0])
    np.testing.assert_allclose(mixture_loss(x, 3, 0.1, 0.8), np.log(mixture(x) / plain(x)))


def test_one_image_is_the_sampled_gaussian():
    q, z = 0.02, 0.9
    found = group_pld(1, q, z, 1e-4).self_compose(200).get_epsilon_for_delta(DELTA)
    assert found == pytest.approx(
        epsilon([MechanismRun(SampledGaussian(z, q), 200)], DELTA), rel=1e-6
    )
    renyi, expected = _group_integral(q, z, 1), _sampled_gaussian(q, z)
    finite = np.isfinite(renyi)
    assert finite.sum() > 50
    np.testing.assert_allclose(renyi[finite], expected[finite], rtol=1e-5)


def test_all_images_in_every_batch_is_one_gaussian():
    person = epsilon([MechanismRun(SampledGaussian(12.0, 1.0), 9)], DELTA, images_per_person=3)
    assert person == pytest.approx(
        epsilon([MechanismRun(SampledGaussian(4.0, 1.0), 9)], DELTA), rel=2e-3
    )


@pytest.mark.parametrize("name", ["pld", "rdp"])
def test_more_images_cost_more_and_less_than_the_coarse_bound(name):
    phase = MechanismRun(SampledGaussian(2.0, 0.02), 200)
    found = [epsilon([phase], DELTA, name, images_per_person=m) for m in (1, 2, 4)]
    assert found[0] < found[1] < found[2]
    # All four move together whenever one of them is in the batch: more than what happens.
    coarse = MechanismRun(SampledGaussian(2.0 / 4, 1 - 0.98**4), 200)
    assert found[2] < epsilon([coarse], DELTA, name)


@pytest.mark.parametrize(("m", "q", "z"), [(3, 0.1, 0.8), (6, 0.3, 3.0), (20, 0.005, 1.0)])
@pytest.mark.parametrize("order", [1.5, 8.0, 32.0])
def test_renyi_of_a_group_is_the_integral(m, q, z, order):
    x = np.linspace(-order * m - 15 * z, order * m + 15 * z, 40_001)
    parts = [
        binom.logpmf(k, m, q) + norm.logpdf(x, k, z) - norm.logpdf(x, 0, z) for k in range(m + 1)
    ]
    log_ratio = np.logaddexp.reduce(parts, axis=0)

    def moment(power):
        return logsumexp(power * log_ratio + norm.logpdf(x, 0, z)) + math.log(x[1] - x[0])

    expected = max(moment(order), moment(1 - order)) / (order - 1)
    found = dict(zip(_orders(), _group_integral(q, z, m), strict=True))[order]
    assert found == pytest.approx(expected, rel=1e-5)


def test_renyi_of_a_group_is_below_its_bound():
    finite = np.isfinite(_group_integral(0.02, 2.0, 4))
    assert finite.sum() > 20
    ratio = _group_integral(0.02, 2.0, 4)[finite] / _group_bound(0.02, 2.0, 4)[finite]
    assert (ratio < 1).all() and ratio.min() < 0.5


def test_a_person_of_shuffled_epochs():
    mechanism = SampledGaussian(30.0, 0.1, SHUFFLED_EPOCHS)
    person = epsilon([MechanismRun(mechanism, 40)], DELTA, images_per_person=5)
    alone = SampledGaussian(6.0, 0.1, SHUFFLED_EPOCHS)
    assert person == pytest.approx(epsilon([MechanismRun(alone, 40)], DELTA), rel=1e-6)
