"""Why `--dp_scope=all` draws a batch for each of three networks: dp-accounting's own figures."""

import math
import re

import dp_accounting
import pytest
from dp_accounting import pld

from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import MechanismRun, SampledGaussian, merged_noise

DELTA, NETWORKS = 1e-5, 3


def directly(*updates, interval=1e-3):
    """dp-accounting's epsilon of updates (q, z, steps)."""
    accountant = pld.PLDAccountant(value_discretization_interval=interval)
    for q, z, steps in updates:
        event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(z))
        accountant.compose(event, steps)
    return accountant.get_epsilon(DELTA)


# The page's rows: q, noise of each update, steps.
CASES = [(512 / 12_000, 2.44, 144), (512 / 12_000, 1.0, 144), (128 / 8000, 0.8, 630)]


@pytest.mark.parametrize(("q", "z", "steps"), CASES)
def test_three_events_cost_less_than_one_merged_event(q, z, steps, repo_root):
    merged = merged_noise([z] * NETWORKS)
    assert merged == pytest.approx(z / math.sqrt(NETWORKS))
    separate_cost = directly((q, z, NETWORKS * steps))
    merged_cost = directly((q, merged, steps))
    assert separate_cost < merged_cost
    ours = [epsilon([MechanismRun(SampledGaussian(z, q), steps)] * NETWORKS, DELTA)]
    ours.append(epsilon([MechanismRun(SampledGaussian(merged, q), steps)], DELTA))
    assert ours == pytest.approx([separate_cost, merged_cost], rel=5e-3)
    # The page says what was computed.
    page = (repo_root / "docs" / "accounting.md").read_text(encoding="utf-8")
    row = rf"\| {q:.4f} \| {z:g} \| {steps} \| ([\d.]+) \| ([\d.]+) \|"
    shown = [float(figure) for figure in re.search(row, page).groups()]
    assert shown == pytest.approx(ours, rel=6e-3)


def test_a_target_needs_more_noise_on_shared_batches(repo_root):
    q, single, joint = 512 / 12_000, 12 * 24, 6 * 24

    def shared(z):
        return directly((q, z, single), (q, z / math.sqrt(NETWORKS), joint), interval=1e-4)

    def separate(z):
        return directly((q, z, single + NETWORKS * joint), interval=1e-4)

    assert separate(2.45) <= 2 < separate(2.43)
    assert shared(2.65) <= 2 < shared(2.63)
    page = " ".join((repo_root / "docs" / "accounting.md").read_text(encoding="utf-8").split())
    assert "a noise of 2.45 in all updates, and 2.65 if the joint phase shared" in page
