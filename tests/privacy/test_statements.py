import dp_accounting
import pytest
from dp_accounting import rdp

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.accounting.statements import library_epsilon, library_statement

PHASE = MechanismRun(SampledGaussian(1.12, 256 / 60_000, rows=60_000), 14_063)


def test_library_epsilon_equals_renyi_accounting(caplog):
    # The library has fewer orders than dp-accounting itself, so it may be a little above.
    ours = epsilon([PHASE], 1e-5, "rdp")
    assert ours <= library_epsilon(PHASE, 1e-5) * (1 + 1e-6) <= ours * 1.002
    assert caplog.records == []


def test_library_statement_has_the_run_and_user_level_epsilon():
    text = library_statement(PHASE, 1e-5, images_per_person=2)
    assert "60000 examples with 256 examples per iteration, noise" in " ".join(text.split())
    assert "without microbatching" in " ".join(text.split())
    assert "2.519" in text and "User-level DP" in text
    # It has no person-level epsilon by PLD and states this.
    assert "at this\ntime" in library_statement(PHASE, 1e-5, 2, accountant="pld")


@pytest.mark.parametrize("steps", [1, 7, 234, 235, 625, 14_063])
def test_library_epsilon_counts_the_steps_that_ran(steps):
    phase = MechanismRun(SampledGaussian(1.0, 128 / 8000, rows=8000), steps)
    orders = [1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 4.5, *range(5, 64), 128, 256, 512]
    accountant = rdp.RdpAccountant(orders)
    event = dp_accounting.PoissonSampledDpEvent(128 / 8000, dp_accounting.GaussianDpEvent(1.0))
    accountant.compose(event, steps)
    assert library_epsilon(phase, 1e-5) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-9)


def test_library_statement_without_rows_or_steps_is_refused():
    for phase in (MechanismRun(SampledGaussian(1.0, 0.1), 5), MechanismRun(PHASE.mechanism, 0)):
        with pytest.raises(UsageError, match="needs --rows and at least one step"):
            library_statement(phase, 1e-5)
