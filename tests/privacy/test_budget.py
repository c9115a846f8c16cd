"""How many steps a shared budget allows, against counting them one by one with dp-accounting."""

import pytest

from tests.privacy.reference import reference_epsilon
from tf_mtl_privacy.privacy.accounting.calibration import affordable_together, largest
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, SampledGaussian
from tf_mtl_privacy.privacy.ledger import VERSION, LedgerHeader, LedgerState

DELTA = 1e-5
MECHANISMS = {
    "first": SampledGaussian(2.0, 0.1),
    "second": SampledGaussian(3.0, 0.2),
    "third": SampledGaussian(1.5, 0.05),
}


def state(spent, mechanisms=MECHANISMS):
    header = LedgerHeader(mechanisms, l2_norm_clip=1.0).to_dict()
    return LedgerState(
        [
            {"kind": "header", "version": VERSION, "header": header, "run_id": "0"},
            {"kind": "session", "at": dict.fromkeys(mechanisms, 0), "void": ""},
            *({"kind": "reserve", "phase": name, "count": n} for name, n in spent.items() if n),
        ]
    )


def by_hand(spent, updates, more, within=MECHANISMS):
    counts = {name: spent.get(name, 0) + (more if name in updates else 0) for name in within}
    return reference_epsilon(
        [
            (MECHANISMS[name].noise_multiplier, MECHANISMS[name].sampling_probability, count)
            for name, count in counts.items()
        ],
        DELTA,
        interval=1e-3,
    )


@pytest.mark.parametrize(
    ("spent", "updates", "within"),
    [
        ({"first": 12}, ["second"], None),
        ({"first": 5, "third": 9}, ["second", "third"], None),
        ({"first": 30, "second": 1}, ["second", "third"], ("second", "third")),
        ({}, ["first", "second", "third"], None),
    ],
)
def test_as_many_steps_as_dp_accounting_finds_one_by_one(spent, updates, within):
    shared = within or MECHANISMS
    costs = [by_hand(spent, updates, more, shared) for more in range(12)]
    # Between the seventh step and the eighth, so that no rounding decides.
    target = (costs[7] + costs[8]) / 2
    expected = sum(cost <= target for cost in costs[1:])
    assert expected == 7

    def found(count):
        return affordable_together(state(spent), updates, count, target, DELTA, within=within)

    assert [found(count) for count in (0, 3, 7, 8, 20)] == [0, 3, 7, 7, 7]


def test_nothing_is_left_of_a_spent_budget():
    spent = {"first": 12}
    target = by_hand(spent, [], 0) - 0.01
    assert affordable_together(state(spent), ["second"], 5, target, DELTA) == 0
    # A budget of its own is not touched by what others spent.
    assert affordable_together(state(spent), ["second"], 1, 1.0, DELTA, within=("second",)) == 1


def test_shuffled_epochs_may_finish_the_pass_that_is_paid_for():
    mechanisms = {"first": SampledGaussian(9.0, 0.1, SHUFFLED_EPOCHS, rows=640)}
    # Ten steps a pass; 13 steps are two passes, and three are one too many.
    target = reference_epsilon([(9.0, 1.0, 2)], DELTA) + 0.01
    assert reference_epsilon([(9.0, 1.0, 3)], DELTA) > target
    now = state({"first": 13}, mechanisms)
    assert affordable_together(now, ["first"], 50, target, DELTA) == 7


def test_the_largest_that_fits():
    for limit in range(-1, 12):
        for most in range(12):
            asked = []

            def fits(number, limit=limit, asked=asked):
                asked.append(number)
                return number <= limit

            assert largest(fits, most) == max(min(limit, most), 0)
            assert all(1 <= number <= most for number in asked)
