"""Bounds over all attackers, against exact binomial sums and counts of draws."""

import itertools
import math

import numpy as np
import pytest

from tf_mtl_privacy.evaluation.intervals import balanced_accuracy_interval, wilson_interval
from tf_mtl_privacy.evaluation.probes.bounds import (
    Attack,
    bound,
    pack,
    paired_gain,
    unpack,
    upper_end,
)


def tail(hits, n, rate):
    """P(X <= hits) of a binomial, summed term by term."""
    return math.fsum(math.comb(n, k) * rate**k * (1 - rate) ** (n - k) for k in range(hits + 1))


def attack_of(hits, rows, name="a", kind="unseen"):
    """An attacker with `hits` right answers of `rows` in each class."""
    n, right = sum(rows), sum(hits)
    figures = {
        "accuracy": right / n,
        "balanced_accuracy": sum(h / r for h, r in zip(hits, rows, strict=True)) / len(rows),
        "ci95": wilson_interval(right, n),
        "balanced_ci95": balanced_accuracy_interval(hits, rows),
        "n": n,
    }
    return Attack(name, kind, figures)


@pytest.mark.parametrize(("hits", "n", "attackers"), [(30, 200, 1), (30, 200, 8), (0, 50, 5)])
def test_bound_accuracy_is_the_exact_binomial_limit_at_the_corrected_level(hits, n, attackers):
    weak = [attack_of([0, 0], [n // 2, n // 2], f"w{k}") for k in range(attackers - 1)]
    found = bound([attack_of([hits // 2, hits - hits // 2], [n // 2, n // 2]), *weak])
    assert found["attackers"] == attackers and found["attacker"] == "a"
    # At this rate so few hits have half of what Bonferroni leaves to each attacker.
    assert tail(hits, n, found["accuracy"]) == pytest.approx(0.05 / attackers / 2, rel=1e-6)


def test_bound_grows_with_attackers_and_is_never_below_an_interval():
    rows = [100] * 8
    best, other = attack_of([20] * 8, rows, "best", "own"), attack_of([13] * 8, rows)
    alone, many = bound([best]), bound([best, *[other] * 19])
    assert (many["attacker"], many["trained_on"]) == ("best", "own")
    for name in ("accuracy", "balanced_accuracy"):
        assert upper_end(best.test) < many[name]
        assert alone[name] < many[name]
    assert bound([attack_of([100] * 8, rows)])["accuracy"] == 1
    with pytest.raises(ValueError, match="at least one attacker"):
        bound([])


@pytest.mark.parametrize("attackers", [1, 12])
@pytest.mark.parametrize(
    ("recalls", "rows"),
    [([0.3, 0.1], [20, 30]), ([0.6, 0.4], [25, 12]), ([0.5, 0.5, 0.2], [10, 8, 12])],
)
def test_balanced_bound_has_the_bonferroni_coverage(recalls, rows, attackers):
    """By enumeration of all outcomes of one attacker; the others never say anything."""
    other = [attack_of([0] * len(rows), rows) for _ in range(attackers - 1)]
    masses = [
        [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
        for p, n in zip(recalls, rows, strict=True)
    ]
    missed = 0.0
    for hits in itertools.product(*(range(n + 1) for n in rows)):
        mass = math.prod(m[h] for m, h in zip(masses, hits, strict=True))
        if mass > 1e-9:
            found = bound([attack_of(list(hits), rows), *other])
            missed += mass * (found["balanced_accuracy"] < sum(recalls) / len(recalls))
    assert missed < 0.05 / attackers


def test_strongest_of_many_attackers_at_chance_stays_below_the_bound():
    """The attacker with the most hits on test rows, chosen after the fact: the worst case."""
    rng, rows, held = np.random.default_rng(0), [60] * 4, 0
    for _ in range(400):
        hits = rng.binomial(60, 0.25, (15, 4))
        found = bound([attack_of(h.tolist(), rows) for h in hits])
        held += found["accuracy"] >= 0.25 and found["balanced_accuracy"] >= 0.25
    assert held >= 0.95 * 400


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_unpack_reverses_pack(count):
    right = np.random.default_rng(count).random(count) < 0.4
    text = pack(right)
    assert isinstance(text, str) and len(text) == 2 * -(-count // 8)
    np.testing.assert_array_equal(unpack(text, count), right)
    with pytest.raises(ValueError, match="expected"):
        unpack(text, count + 8)


def test_paired_gain_equals_hand_calculation():
    labels = np.repeat([0, 1], [4, 10])
    before, after = np.zeros(14, bool), np.zeros(14, bool)
    before[[0, 4]] = True
    after[[1, 2, 3, 4, 5]] = True
    gain, (low, high) = paired_gain(before, after, labels)
    assert gain == pytest.approx(((3 - 1) / 4 + 1 / 10) / 2)
    # Half a row more on either side, one more in all.
    p, q, r, s = 3.5 / 5, 1.5 / 5, 1.5 / 11, 0.5 / 11
    variance = (p + q - (p - q) ** 2) / 4 + (r + s - (r - s) ** 2) / 10
    assert high - gain == pytest.approx(1.959964 * variance**0.5 / 2)
    assert gain - low == pytest.approx(high - gain)


def test_paired_gain_interval_covers_the_truth():
    rng, labels, held, times = np.random.default_rng(1), np.repeat(np.arange(4), 40), 0, 2000
    for _ in range(times):
        before = rng.random(160) < 0.3
        after = np.where(rng.random(160) < 0.25, rng.random(160) < 0.5, before)
        # Of a quarter of the rows a half is right, before that it was three tenths.
        _, (low, high) = paired_gain(before, after, labels)
        held += low <= 0.25 * 0.2 <= high
    assert 0.94 < held / times < 0.99
