"""The whole audit: a correct claim holds, planted faults contradict it, refusals."""

import dataclasses
import json

import pytest

from tests.evaluation.dp_audit.faults import clipping_off, halved_noise
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.dp_audit import run
from tf_mtl_privacy.evaluation.dp_audit.bound import epsilon_lower_bound
from tf_mtl_privacy.evaluation.dp_audit.canaries import SingleStep
from tf_mtl_privacy.evaluation.dp_audit.run import Claim, claim_of, dp_audit, first_updates, work
from tf_mtl_privacy.privacy.accounting.calibration import noise_for_epsilon
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import SHUFFLED_EPOCHS, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.keys import key_for_tests

DELTA = 1e-5
KEYS = {
    "epsilon_lower",
    "confidence",
    "delta",
    "claimed",
    "max_detectable",
    "verdict",
    "guesses",
    "correct",
    "canaries",
    "text",
}


@pytest.fixture(scope="module")
def claim():
    noise = noise_for_epsilon(2.0, DELTA, 1.0, 1)
    phases = (MechanismRun(SampledGaussian(noise, 1.0), 1),)
    return Claim(phases, 1.0, DELTA, epsilon(phases, DELTA))


@pytest.fixture(scope="module")
def shipped(claim):
    counted = []
    found = dp_audit(claim, seed=1, key=key_for_tests(1), done=counted.append)
    assert sum(counted) == work(claim)
    return found


def test_dp_audit_of_the_shipped_update_holds(shipped):
    assert shipped["verdict"] == "holds" and shipped["canaries"] >= 10_000
    assert 1.9 < shipped["claimed"] <= 2.0
    # Far from nothing, and no more than is claimed.
    assert 0.6 < shipped["epsilon_lower"] <= shipped["claimed"] < shipped["max_detectable"]
    assert not shipped["single_step"]["contradicted"]
    assert f"{shipped['epsilon_lower']:.2f}" in shipped["text"]
    assert set(shipped) > KEYS and json.loads(json.dumps(shipped)) == shipped


def test_dp_audit_bound_follows_from_its_guesses(shipped):
    # The single update has a fifth of the five per cent.
    expected = epsilon_lower_bound(
        shipped["canaries"], shipped["guesses"], shipped["correct"], DELTA, 0.96
    )
    assert shipped["epsilon_lower"] == pytest.approx(expected, abs=1e-3)
    assert shipped["confidence"] == 0.95 and shipped["delta"] == DELTA


@pytest.mark.parametrize("fault", [halved_noise, clipping_off])
def test_dp_audit_with_planted_faults_is_contradicted(claim, shipped, fault):
    with fault():
        found = dp_audit(claim, seed=1, key=key_for_tests(1))
    assert found["verdict"] == "contradicted" and found["text"].startswith("Contradicted")
    assert found["epsilon_lower"] > found["claimed"]
    assert found["single_step"]["contradicted"]
    # The number of guesses was fixed before, by the claim alone.
    assert found["guesses"] == shipped["guesses"]


def test_dp_audit_with_few_canaries_has_no_power(claim):
    found = dp_audit(claim, canaries=17, key=key_for_tests(1))
    assert found["canaries"] == 16 and found["verdict"] == "no_power"
    assert found["max_detectable"] < found["claimed"] and found["text"].startswith("No power")


def test_dp_audit_of_an_unreachable_claim_has_no_power(claim):
    found = dp_audit(dataclasses.replace(claim, epsilon=30.0), canaries=900, key=key_for_tests(1))
    assert found["verdict"] == "no_power"


@pytest.mark.parametrize("name", ["demo", "synthetic_seed0", "photographs_erased"])
def test_claim_of_a_run_without_released_epsilon_is_empty(repo_root, name):
    results = json.loads((repo_root / "docs" / "results" / f"{name}.json").read_text())
    assert set(results["dp"]["released"].values()) == {None}
    found = dp_audit(claim_of(results["dp"]))
    assert found["verdict"] == "no_claim" and set(found) > KEYS
    assert found["text"].startswith("No claim to test")
    assert found["epsilon_lower"] is found["claimed"] is found["max_detectable"] is None
    assert work(claim_of(results["dp"])) == 0


def test_claim_of_a_fully_private_run_is_its_epsilon(repo_root):
    path = repo_root / "docs" / "results" / "synthetic_dp_all.json"
    dp = json.loads(path.read_text())["dp"]
    claim = claim_of(dp, "ghost")
    assert claim.epsilon == dp["epsilon_pld"] == dp["released"]["encoder"]
    assert (claim.delta, claim.l2_norm_clip) == (dp["delta"], dp["l2_norm_clip"])
    assert sum(phase.steps for phase in claim.phases) == dp["steps"]
    assert epsilon(claim.phases, claim.delta) == pytest.approx(claim.epsilon, rel=1e-3)


def test_first_updates_are_the_first_whole_epochs():
    poisson = MechanismRun(SampledGaussian(1.0, 0.1), 30)
    shuffled = MechanismRun(SampledGaussian(1.0, 0.1, SHUFFLED_EPOCHS), 45)
    kept = first_updates([poisson, shuffled], 55)
    assert [phase.steps for phase in kept] == [30, 20]
    assert first_updates([poisson, shuffled], 20) == (dataclasses.replace(poisson, steps=20),)
    # At least one epoch: a part of one reads only some canaries.
    assert [p.steps for p in first_updates([shuffled], 3)] == [10]
    assert kept[1].exposures == 2


def test_dp_audit_with_an_unknown_setting_or_few_canaries_is_refused(claim):
    with pytest.raises(UsageError, match="fast or thorough"):
        dp_audit(claim, setting="slow")
    with pytest.raises(UsageError, match="canaries=3"):
        dp_audit(claim, canaries=3)


def test_dp_audit_draws_coins_from_its_key(claim, monkeypatch):
    coins = []

    def kept(phases, included, **keywords):
        coins.append(included)
        return included.astype(float)

    monkeypatch.setattr(run, "scores_of_one_run", kept)
    monkeypatch.setattr(
        run, "repeat_one_update", lambda *args, **kw: SingleStep(*[0] * len(SingleStep._fields))
    )
    for key in (key_for_tests(1), key_for_tests(1), None, None):
        dp_audit(claim, canaries=400, key=key)
    # As claimed and without noise, of four audits.
    test, again, secret, other = coins[::2]
    assert (test == again).all()
    assert (secret != other).any() and (secret != test).any()
    assert (coins[0] != coins[1]).any()
