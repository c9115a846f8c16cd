"""Overflow probabilities that never decide an epsilon, and the reasons for infinite ones."""

import dataclasses
import math

import pytest

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.privacy.accounting.calibration import calibrated
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon, replace_one_epsilon, why_infinite
from tf_mtl_privacy.privacy.accounting.events import MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.batch_selection import capacity_for, overflow_probability, upper_tail
from tf_mtl_privacy.privacy.noise_record import UPDATE_TAIL, reach

DELTA = 8e-6
ROWS, Q, STEPS = 60_000, 250 / 60_000, 14_400


def with_overflow(phase, probability, rows=ROWS):
    q = phase.mechanism.sampling_probability
    tail = upper_tail(capacity_for(rows, q, probability), rows, q)
    mechanism = dataclasses.replace(phase.mechanism, overflow_probability=tail)
    return dataclasses.replace(phase, mechanism=mechanism)


@pytest.mark.parametrize("target", [1.0, 50.0])
def test_a_chosen_overflow_does_not_decide_the_noise(target):
    phase = MechanismRun(SampledGaussian(1.0, Q), STEPS)
    chosen = overflow_probability([phase], DELTA, target)
    found = calibrated([with_overflow(phase, chosen)], target, DELTA)[0]
    noise = found.mechanism.noise_multiplier
    grid = 1e-3 if target < 10 else 1e-2
    # By dp-accounting, which knows of no overflow.
    assert reference_epsilon([(noise / 1.002, Q, STEPS)], DELTA, grid) > target
    assert epsilon([found], DELTA) <= target
    assert chosen <= 1e-15


def test_it_leaves_room_for_a_person_and_for_replacing_a_row():
    phase = MechanismRun(SampledGaussian(1.0, 0.05, rows=2000), 200)
    chosen = overflow_probability([phase], DELTA, 4.0, images_per_person=4)
    found = calibrated([with_overflow(phase, chosen, 2000)], 4.0, DELTA)[0]
    assert math.isfinite(epsilon([found], DELTA, images_per_person=4))
    assert math.isfinite(replace_one_epsilon([found], DELTA))
    # The probability of earlier versions leaves none for a person.
    before = calibrated([with_overflow(phase, 1e-15, 2000)], 4.0, DELTA)[0]
    assert epsilon([before], DELTA, images_per_person=4) == math.inf


def test_of_a_vast_epsilon_there_is_a_place_for_every_row():
    chosen = overflow_probability([MechanismRun(SampledGaussian(0.05, Q), STEPS)], DELTA)
    assert chosen == 0.0 and capacity_for(ROWS, Q, chosen) == ROWS
    assert overflow_probability([], DELTA) == 1e-15
    assert 0 < upper_tail(ROWS - 1, ROWS, Q) < 1e-300, "never rounded down to nothing"


def test_epsilon_beyond_the_reach_of_the_noise_is_infinite():
    # One update of noise 0.05: 20 standard deviations between the tables, and the noise has 16.3.
    one = [MechanismRun(SampledGaussian(0.05, 1.0), 1)]
    assert reach() < 1 / 0.05 and epsilon(one, DELTA) == math.inf
    # Below that, what is charged is (1 + e^epsilon) times the tail of each update.
    phases = [MechanismRun(SampledGaussian(0.1, 1.0), 1)]
    found = epsilon(phases, DELTA)
    left = DELTA - (1 + math.exp(found)) * UPDATE_TAIL
    assert reference_epsilon([(0.1, 1.0, 1)], left, 1e-2) == pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize(
    ("mechanism", "images", "words"),
    [
        (SampledGaussian(0.0, 0.1), 1, "without noise"),
        (SampledGaussian(1.0, 0.1), 0, "not bounded"),
        (
            SampledGaussian(1.0, 0.1, overflow_probability=1e-8),
            1,
            "lower --overflow_probability to 1e-",
        ),
        (SampledGaussian(0.05, 0.1), 1, "reaches 16.3 standard deviations"),
    ],
)
def test_every_infinite_epsilon_has_its_reason(mechanism, images, words):
    phases = [MechanismRun(mechanism, 1000)]
    assert epsilon(phases, DELTA, images_per_person=images) == math.inf
    assert words in why_infinite(phases, DELTA, images)


def test_the_overflow_that_is_recommended_gives_an_epsilon():
    phases = [MechanismRun(SampledGaussian(1.0, 0.1, overflow_probability=1e-8), 1000)]
    recommended = float(why_infinite(phases, DELTA).split("probability to ")[1].split(",")[0])
    mechanism = dataclasses.replace(phases[0].mechanism, overflow_probability=recommended)
    assert math.isfinite(epsilon([MechanismRun(mechanism, 1000)], DELTA))
