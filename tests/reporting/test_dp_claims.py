"""Sentences on epsilon and what it covers, and privacy.txt, for every kind of run."""

import functools
import re

import dp_accounting
import pytest
from dp_accounting import pld, rdp

from tests.reporting.private_runs import (
    BATCH,
    DELTA,
    PUBLIC,
    ROWS,
    STEPS,
    dp_sentences,
    plain_dp,
    private_dp,
)
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS
from tf_mtl_privacy.reporting.formats import reworded
from tf_mtl_privacy.reporting.privacy_card import NOT_COVERED, claims, epsilon, is_conditional
from tf_mtl_privacy.reporting.render_text import WIDTH
from tf_mtl_privacy.reporting.sections.privacy import privacy_text

CONDITIONAL = ("discriminator", "adversarial_discriminator")
EPSILON = r"epsilon ([\d.]+) \(PLD; RDP ([\d.]+)\) at delta 1e-05"


def directly(kind, names, noise=2.0):
    """dp-accounting's own figure for these updates."""
    return _accounted(kind, sum(STEPS[name] for name in names), noise)


@functools.cache
def _accounted(kind, steps, noise):
    accountant = kind()
    event = dp_accounting.PoissonSampledDpEvent(BATCH / ROWS, dp_accounting.GaussianDpEvent(noise))
    accountant.compose(event, steps)
    return accountant.get_epsilon(DELTA)


def printed(dp):
    return "\n".join(dp_sentences(dp))


def figures(text, pattern=EPSILON):
    found = re.search(pattern, text)
    assert found, text
    return [float(figure) for figure in found.groups()]


def test_claims_of_discriminator_scope_give_no_released_weights_an_epsilon():
    dp = private_dp()
    text = printed(dp)
    assert text.startswith("No released weights have an epsilon: the encoder is trained on the sa")
    assert "Only the discriminator's updates have one, conditional epsilon" in text
    assert "assumes that the encoder's weights at every step are known before any batch" in text
    assert set(dp["released"].values()) == {None}
    assert dp["conditional"]["discriminator"] == dp["epsilon_pld"]
    assert "The released weights of" not in text and "Public data:" not in text
    assert (
        "add or remove one image. Poisson sampling. 125 accounted updates, clipping norm 1" in text
    )


@pytest.mark.parametrize("scope", ["discriminator", "all"])
def test_claims_print_the_epsilon_of_dp_accounting_rounded_up(scope):
    names = CONDITIONAL if scope == "discriminator" else tuple(STEPS)
    tight, loose = figures(printed(private_dp(scope)))
    exact = directly(pld.PLDAccountant, names), directly(rdp.RdpAccountant, names)
    for shown, true in zip((tight, loose), exact, strict=True):
        assert true <= shown <= true * 1.003, (shown, true)
    assert tight < loose


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.41231, "0.4124"), (2.00001, "2.001"), (12.341, "12.35"), (0, "0"), (None, "inf")],
)
def test_epsilon_is_rounded_up(value, text):
    assert epsilon(value) == text


def test_claims_of_scope_all_give_released_weights_an_epsilon():
    dp = private_dp("all")
    text = printed(dp)
    assert text.startswith(
        "The released weights of encoder, business, restorer and discriminator to"
    )
    assert f"Public data: {reworded(PUBLIC)}." in text and "it does not cover the features" in text
    assert set(dp["released"].values()) == {dp["epsilon_pld"]}
    assert dp["conditional"] == {"discriminator": None}
    assert "No released weights" not in text and "conditional" not in text


def test_claims_have_a_line_for_each_kind_of_update():
    text = printed(private_dp("all"))
    for name, steps in STEPS.items():
        (own,) = figures(
            text,
            rf"(?m)^{name.replace('_', ' ').capitalize()} updates alone: epsilon ([\d.]+), noise "
            rf"multiplier 2.000, {steps} updates.$",
        )
        exact = directly(pld.PLDAccountant, [name])
        assert exact <= own <= exact * 1.003


def test_claims_quote_the_papers_formula_for_reference():
    # sqrt(2 ln(1.25e5)) / 2 = 2.42237..., rounded up
    words = "sqrt(2 ln(1.25/delta)) / noise multiplier, gives "
    assert f"{words}2.423. It ignores composition and sampling." in printed(private_dp("all"))
    dp = private_dp()
    dp["phases"]["discriminator"] |= {"paper_rule_one_step": 9.0}
    assert f"{words}discriminator 9.000, adversarial discriminator 2.423." in printed(dp)


def test_claims_of_a_void_run_have_no_figure():
    dp = private_dp("all", void="sampling and noise come from a fixed key")
    lines = dp_sentences(dp)
    assert lines[0] == "VOID, no privacy guarantee holds: sampling and noise come from a fixed key."
    assert not re.search(r"\d", "".join(lines)), lines
    assert set(dp["released"].values()) == {None} and dp["conditional"]["discriminator"] is None
    assert dp["reason"] == "void: sampling and noise come from a fixed key"


def test_claims_without_noise_have_no_epsilon():
    # Not booked as void: a ledger of another making. There is no epsilon all the same.
    dp = private_dp(noise=0.0)
    assert dp_sentences(dp)[0] == (
        "No epsilon: no finite epsilon holds at this delta: updates without noise protect nothing."
    )
    assert dp["conditional"]["discriminator"] is None


@pytest.mark.parametrize("model", ["stl", "mtl_adv"])
def test_claims_without_private_updates_say_so(model):
    lines = dp_sentences(plain_dp(model))
    assert lines[0] == "No epsilon: trained without differential privacy."
    assert ("Outside the accounting: the discriminator is trained without noise." in lines) == (
        model == "mtl_adv"
    )


def test_claims_of_shuffled_epochs_have_no_amplification():
    dp = private_dp(sampling=SHUFFLED_EPOCHS)
    text = printed(dp)
    assert "replace one image by an empty row. Shuffled epochs (no amplification" in text
    # 25 steps an epoch: 50 and 75 updates are 2 + 3 unsampled Gaussian mechanisms.
    accountant = pld.PLDAccountant(dp_accounting.NeighboringRelation.REPLACE_SPECIAL)
    accountant.compose(dp_accounting.GaussianDpEvent(2.0), 5)
    exact = accountant.get_epsilon(DELTA)
    assert exact <= figures(text)[0] <= exact * 1.003
    assert figures(text)[0] > 2 * figures(printed(private_dp()))[0]


def test_claims_of_full_batches_have_no_amplification():
    dp = private_dp(batch=ROWS, noise=20.0)
    text = printed(dp)
    assert "Every row in every batch (no amplification by sampling). 125 accounted" in text
    assert "Poisson" not in text
    # 125 Gaussian mechanisms on all rows.
    accountant = pld.PLDAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(20.0), 125)
    exact = accountant.get_epsilon(DELTA)
    assert exact <= figures(text)[0] <= exact * 1.003
    # Where one kind of update does sample, the words for all of them are not used.
    dp["phases"]["discriminator"]["sampling_probability"] = 0.5
    assert "Poisson sampling" in printed(dp)


def test_claims_call_an_epsilon_without_released_weights_conditional():
    own = [line for line in dp_sentences(private_dp()) if "updates alone" in line]
    assert len(own) == 2 and all(": conditional epsilon" in line for line in own)
    assert is_conditional(private_dp())
    for dp in (private_dp("all"), plain_dp(), private_dp(void="a fixed key")):
        assert not is_conditional(dp)
        assert "conditional" not in " ".join(dp_sentences(dp))


def test_claims_state_the_target_epsilon():
    words = "Target epsilon 2 for discriminator and adversarial discriminator."
    assert words in dp_sentences(private_dp())
    dp = private_dp()
    dp["budgets"] = []
    assert not any(line.startswith("Target") for line in dp_sentences(dp))


def test_label_access_names_selection_by_identity():
    words = "the people and pictures of the data set were chosen by identity"
    assert words in plain_dp(private_label="identity")["unaccounted_label_access"]
    assert f"Outside the accounting: {words}." in dp_sentences(plain_dp(private_label="identity"))
    assert words not in plain_dp()["unaccounted_label_access"]
    assert words not in plain_dp(private_label="hair")["unaccounted_label_access"]


def test_claims_state_an_exhausted_budget():
    assert "stopped" not in printed(private_dp())
    text = printed(private_dp(ended={"adversarial": 1200}))
    assert "Adversarial stopped 1,200 steps early: privacy budget exhausted." in text


def test_claims_state_a_person_level_epsilon_only_with_a_bound():
    assert "No person-level epsilon, because the number of images" in printed(private_dp())
    dp = private_dp(most_images=3)
    person = figures(
        printed(dp), r"at most 3 images each: conditional epsilon ([\d.]+) \(PLD; RDP ([\d.]+)\)"
    )
    image = figures(printed(dp))
    assert image[0] < person[0] < person[1]
    assert dp["person"]["epsilon_pld"] <= person[0]
    # Where none holds (batches overflow too often), never a number.
    dp["person"] = {"epsilon_pld": None, "epsilon_rdp": None}
    assert "at most 3 images each: conditional epsilon inf (PLD; RDP inf)" in printed(dp)


@pytest.mark.parametrize("objective", ["paper", "confusion"])
@pytest.mark.parametrize("scope", ["discriminator", "all"])
@pytest.mark.parametrize("void", ["", "the noise multiplier is zero"])
def test_label_access_outside_the_accounting_is_stated(objective, scope, void):
    dp = private_dp(scope, objective=objective, void=void)
    lines = dp_sentences(dp)
    start = "Outside the accounting: "
    told = [line for line in lines if line.startswith(start)]
    assert [line.removeprefix(start).removesuffix(".") for line in told] == [
        reworded(text) for text in dp["unaccounted_label_access"] + dp["validation_label_access"]
    ]
    assert "gates and the beta schedule use the labels of validation rows" in told[-1]
    by_encoder = [line for line in told if f"objective '{objective}'" in line]
    assert len(by_encoder) == (scope == "discriminator" and objective == "paper")


def test_label_access_names_public_labels():
    dp = private_dp()
    access = "the mask's reader: 12,000 synthetic faces of no real person"
    dp["public_label_access"] = [access]
    line = f"Public data instead of private labels for {access}."
    assert line in dp_sentences(dp)
    assert "instead of private" not in printed(private_dp())


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize("scope", ["discriminator", "all"])
def test_privacy_text_begins_with_the_claims(scope):
    dp = private_dp(scope, ended={"adversarial": 7})
    text = privacy_text(dp)
    assert flat(text).startswith(" - ".join(["Differential privacy:", *claims(dp)]))
    words = "Not covered by any epsilon:"
    assert flat(text).index(words) > flat(text).index("Outside the accounting")
    assert len(NOT_COVERED) == 6 and all(f"- {left_out}" in flat(text) for left_out in NOT_COVERED)
    assert max(map(len, text.splitlines())) <= WIDTH


def test_privacy_text_has_the_library_statement_of_each_update():
    text = privacy_text(private_dp("all"))
    assert re.findall(r"tensorflow-privacy on the '(\w+)' updates", text) == list(STEPS)
    words = f"DP-SGD performed over {ROWS} examples with {BATCH} examples per iteration"
    assert flat(text).count(words) == len(STEPS)
    assert flat(text).count("without microbatching") == len(STEPS)


def test_privacy_text_has_the_library_epsilon_of_the_accounted_updates():
    text = flat(privacy_text(private_dp("all")))
    orders = [1.25, 1.5, 1.75, 2, 2.25, 2.5, 3, 3.5, 4, 4.5, *range(5, 64), 128, 256, 512]
    event = dp_accounting.PoissonSampledDpEvent(BATCH / ROWS, dp_accounting.GaussianDpEvent(2.0))
    for name, steps in STEPS.items():
        accountant = rdp.RdpAccountant(orders)
        accountant.compose(event, steps)
        exact = accountant.get_epsilon(DELTA)
        shown = re.search(
            rf"'{name}' updates alone, [^(]*\(its compute_dp_sgd_privacy gives epsilon ([\d.]+)\)",
            text,
        )
        assert exact <= float(shown[1]) <= exact * 1.001 + 1e-3


def test_privacy_text_limits_the_library_statement():
    own = "Its 'model checkpoints' are those of the discriminator only, conditional on the"
    shuffled = "THESE BATCHES WERE SHUFFLED: what it says under Poisson sampling does not hold"
    text = flat(privacy_text(private_dp()))
    assert text.count(own) == 2 and shuffled not in text
    assert flat(privacy_text(private_dp(sampling=SHUFFLED_EPOCHS))).count(shuffled) == 2
    assert own not in flat(privacy_text(private_dp("all")))


def test_privacy_text_of_a_void_run_has_no_statement():
    text = privacy_text(private_dp(void="sampling and noise come from a fixed key"))
    assert "VOID, no privacy guarantee holds" in text
    assert "tensorflow-privacy" not in text and "DP-SGD performed" not in text


def test_privacy_text_without_private_updates_claims_nothing():
    text = privacy_text(plain_dp())
    assert (
        text.startswith("Differential privacy:\n- No epsilon: ")
        and "tensorflow-privacy" not in text
    )
