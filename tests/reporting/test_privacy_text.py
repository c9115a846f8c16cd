"""privacy.txt: the claims of the table, what they leave out, and tensorflow-privacy's statement."""

import re

import dp_accounting
import pytest
from dp_accounting import rdp

from tests.reporting.private_runs import BATCH, DELTA, ROWS, STEPS, plain_dp, private_dp
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS
from tf_mtl_privacy.reporting.formats import WIDTH
from tf_mtl_privacy.reporting.privacy_lines import dp_lines
from tf_mtl_privacy.reporting.privacy_text import privacy_text


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize("scope", ["discriminator", "all"])
def test_the_claims_stand_first_as_in_the_table(scope):
    dp = private_dp(scope, ended={"adversarial": 7})
    text = privacy_text(dp)
    assert flat(text).startswith(flat("\n".join(dp_lines(dp))))
    words = "Not covered by any epsilon: choices by validation rows"
    assert flat(text).index(words) > flat(text).index("not accounted for")
    for left_out in (
        "rows and people",
        "other runs on the same pictures (the epsilons of all that are released add up)",
        "copied or rolled back",
        "losses of training batches as they are, in logs and checkpoints and on the terminal",
        "a loss which is not finite",
        "features/",
        "floating-point",
    ):
        assert left_out in flat(text)
    assert max(map(len, text.splitlines())) <= WIDTH


def test_the_library_s_statement_of_each_kind_of_update_is_there():
    text = privacy_text(private_dp("all"))
    assert re.findall(r"tensorflow-privacy on the updates '(\w+)'", text) == list(STEPS)
    words = f"DP-SGD performed over {ROWS} examples with {BATCH} examples per iteration"
    assert flat(text).count(words) == len(STEPS)
    assert flat(text).count("without microbatching") == len(STEPS)


def test_the_library_s_figure_is_that_of_the_counted_updates():
    text = flat(privacy_text(private_dp("all")))
    orders = [1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 4.5, *range(5, 64), 128, 256, 512]
    event = dp_accounting.PoissonSampledDpEvent(BATCH / ROWS, dp_accounting.GaussianDpEvent(2.0))
    for name, steps in STEPS.items():
        accountant = rdp.RdpAccountant(orders)
        accountant.compose(event, steps)
        exact = accountant.get_epsilon(DELTA)
        shown = re.search(rf"updates '{name}' \(its compute_dp_sgd_privacy gives ([\d.]+);", text)
        assert exact <= float(shown[1]) <= exact * 1.001 + 1e-3


def test_the_library_is_said_not_to_know_of_encoder_and_shuffling():
    own = "Its 'model checkpoints' are the discriminator's alone, conditional on the encoder's"
    shuffled = "THESE BATCHES WERE SHUFFLED, so what assumes Poisson sampling does not hold"
    text = flat(privacy_text(private_dp()))
    assert text.count(own) == 2 and shuffled not in text
    assert flat(privacy_text(private_dp(sampling=SHUFFLED_EPOCHS))).count(shuffled) == 2
    assert own not in flat(privacy_text(private_dp("all")))


def test_a_void_run_has_no_statement():
    text = privacy_text(private_dp(void="sampling and noise come from a fixed key"))
    assert text.startswith("VOID, nothing is protected")
    assert "tensorflow-privacy" not in text and "DP-SGD performed" not in text


def test_a_run_without_private_updates_claims_nothing():
    text = privacy_text(plain_dp())
    assert text.startswith("no epsilon is stated") and "tensorflow-privacy" not in text
