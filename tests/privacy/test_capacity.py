"""The bound on what a noisy bottleneck passes, against hand-worked channels and random inputs."""

import math

import numpy as np
import pytest

from tf_mtl_privacy.privacy.accounting.events import capacity_bits


@pytest.mark.parametrize(
    ("entries", "deviation", "draws", "bits"),
    [
        (2, 1.0, 1, 1.0),  # two channels of half a bit each
        (128, 1.0, 1, 64.0),
        (10, 0.5, 1, 5 * math.log2(5)),
        (2, 1.0, 3, 2.0),
        (16, 1.0, 63, 48.0),
    ],
)
def test_by_hand(entries, deviation, draws, bits):
    assert capacity_bits(entries, deviation, draws) == pytest.approx(bits, rel=1e-12)


def test_no_noise_bounds_nothing():
    assert capacity_bits(4, 0.0) == math.inf


def test_no_gaussian_input_of_that_power_passes_more():
    rng, size, deviation = np.random.default_rng(0), 6, 0.7
    bound = capacity_bits(size, deviation)
    passed = []
    for _ in range(200):
        root = rng.normal(size=(size, size)) * rng.exponential(size=size)
        covariance = root @ root.T
        covariance *= size / np.trace(covariance)
        determinant = np.linalg.det(np.eye(size) + covariance / deviation**2)
        passed.append(0.5 * np.log2(determinant))
    assert max(passed) < bound
    even = 0.5 * np.log2(np.linalg.det(np.eye(size) * (1 + 1 / deviation**2)))
    assert even == pytest.approx(bound, rel=1e-9)


@pytest.mark.parametrize(
    ("entries", "deviation", "draws"), [(0, 1.0, 1), (4, -1.0, 1), (4, math.nan, 1), (4, 1.0, 0)]
)
def test_numbers_out_of_range_are_refused(entries, deviation, draws):
    with pytest.raises(ValueError, match="Expected entries="):
        capacity_bits(entries, deviation, draws)
