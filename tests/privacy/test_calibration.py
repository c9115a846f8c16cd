import dp_accounting
import pytest
from dp_accounting import pld

from tf_mtl_privacy.privacy.calibration import noise_for_epsilon


@pytest.mark.parametrize("target", [0.5, 2.0])
def test_the_noise_reaches_the_target_by_an_independent_accountant(target):
    q, steps, delta = 128 / 8000, 600, 1e-5
    noise = noise_for_epsilon(target, delta, q, steps)
    accountant = pld.PLDAccountant()
    event = dp_accounting.PoissonSampledDpEvent(q, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(dp_accounting.SelfComposedDpEvent(event, steps))
    # PLD is tighter than the Renyi accounting that chose the noise, though not by much.
    assert 0.75 * target < accountant.get_epsilon(delta) <= target


def test_a_smaller_epsilon_or_more_steps_take_more_noise():
    base = noise_for_epsilon(2.0, 1e-5, 0.01, 500)
    assert noise_for_epsilon(1.0, 1e-5, 0.01, 500) > base
    assert noise_for_epsilon(2.0, 1e-5, 0.01, 2000) > base
