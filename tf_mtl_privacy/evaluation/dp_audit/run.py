"""Audits the private updates of a run: a lower bound on epsilon beside the claimed epsilon."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.dp_audit.bound import (
    Guesses,
    count_correct,
    epsilon_lower_bound,
    plan_guesses,
)
from tf_mtl_privacy.evaluation.dp_audit.canaries import (
    MakeOptimizer,
    SingleStep,
    noise_key,
    repeat_one_update,
    runs_needed,
    scores_of_one_run,
    shipped_optimizer,
    whole_square,
)
from tf_mtl_privacy.evaluation.schema import DPAudit, DPPhase, DPStatus, SingleStepAudit
from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.keys import SecretKey, secret_key
from tf_mtl_privacy.privacy.noise_record import NOISE

# Share of the error probability that the single update gets.
_SINGLE_STEP_SHARE = 0.2
_NOTHING_RELEASED = "no released weight has an epsilon"


@dataclasses.dataclass(frozen=True)
class DPAuditBudget:
    """Numbers of canaries, updates and repetitions.

    Attributes:
        canaries: canaries in one run, a square number.
        canaries_instantiated: likewise, for clipping backends that hold every example's gradient.
        updates: largest number of updates; the first ones are run.
        min_runs: smallest number of repetitions of the single update, with the canary and without.
        runs: largest number of repetitions.
    """

    canaries: int
    canaries_instantiated: int
    updates: int
    min_runs: int
    runs: int


DP_AUDIT_BUDGETS = {
    "fast": DPAuditBudget(
        canaries=200**2, canaries_instantiated=100**2, updates=2_000, min_runs=500, runs=4_000
    ),
    "thorough": DPAuditBudget(
        canaries=320**2,
        canaries_instantiated=100**2,
        updates=20_000,
        min_runs=10_000,
        runs=20_000,
    ),
}


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claimed epsilon and its updates.

    Attributes:
        phases: the private updates that ran.
        l2_norm_clip: C of all updates, > 0.
        delta: delta of the claim; None without one.
        epsilon: the claimed epsilon, > 0; None without a claim.
        clipping: the run's clipping backend.
        reason: why there is no claim; else empty.
    """

    phases: tuple[MechanismRun, ...]
    l2_norm_clip: float
    delta: float | None
    epsilon: float | None
    clipping: str = "ghost"
    reason: str = ""


def claim_of(dp: DPStatus, clipping: str = "ghost") -> Claim:
    """Returns the claim of a run.

    A conditional epsilon (`dp.conditional`) is no claim: it holds for no released weight.

    Args:
        dp: the `dp` part of results.json.
        clipping: the run's `--clipping`.

    Returns:
        The largest epsilon of the released networks, with its updates; without one `epsilon` is
        None and `reason` says why.
    """
    stated = [value for value in dp["released"].values() if value is not None]
    phases = tuple(_phase(values) for values in dp["phases"].values())
    ran = tuple(phase for phase in phases if phase.steps)
    reason = dp.get("reason") or _NOTHING_RELEASED
    if not stated or not ran:
        return Claim(ran, dp.get("l2_norm_clip") or 0.0, dp["delta"], None, clipping, reason)
    return Claim(ran, dp["l2_norm_clip"], dp["delta"], max(stated), clipping)


def no_claim(reason: str) -> Claim:
    """Returns the empty claim.

    Args:
        reason: completes "No claim to test: ...".
    """
    return Claim((), 0.0, None, None, reason=reason)


def dp_audit(
    claim: Claim,
    *,
    setting: str = "fast",
    canaries: int | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    make_optimizer: MakeOptimizer = shipped_optimizer,
    key: SecretKey | None = None,
    done: Callable[[int], None] = lambda count: None,
) -> DPAudit:
    """Tests a claim with canaries, on the code of the run's updates.

    Two tests share the error probability 1 - confidence: canaries in one run with the run's
    settings (`scores_of_one_run`), and one update repeated many times (`repeat_one_update`). They
    do not examine the run's own weights. They test if the code for clipping, noise and sampling,
    with these settings, can be as private as the accounting says.

    Args:
        claim: see `claim_of`.
        setting: a name of `DP_AUDIT_BUDGETS`.
        canaries: number of canaries in place of the budget's; rounded down to a square.
        confidence: confidence of the verdict, in (0, 1).
        seed: of simulations and of the single update's network. Coins, noise and batches come from
            the operating system.
        make_optimizer: builds the private optimizer; tests plant faults with it.
        key: a test's key, which makes coins, noise and batches repeatable.
        done: called with the number of updates done; they add up to `work`.

    Returns:
        The `dp_audit` part of audit.json. `verdict` is "holds", "contradicted", "no_power" or
        "no_claim"; `max_detectable` is the bound that the same guesses show without noise,
        `half_noise` the one to be expected with half the noise; `notices_half_noise` is True if one
        of the tests would in most cases have contradicted the claim then; `updates` of
        `updates_claimed` updates were run. None stands for figures that were not measured.

    Raises:
        UsageError: no such setting, or fewer than 4 canaries.
    """
    if setting not in DP_AUDIT_BUDGETS:
        raise UsageError(f"setting={setting!r}: expected {' or '.join(DP_AUDIT_BUDGETS)}")
    if claim.epsilon is None or claim.delta is None:
        return _no_claim(claim, confidence)
    key, budget = key or secret_key(), DP_AUDIT_BUDGETS[setting]
    single_error, one_run_error = _shares(confidence)
    trial = _Trial(claim, make_optimizer, key, seed, done)
    single = trial.single_step(_runs(claim, budget, single_error), single_error)
    phases, count = first_updates(claim.phases, budget.updates), _canaries(claim, budget, canaries)
    plan = plan_guesses(phases, count, claim.delta, 1 - one_run_error, seed)
    as_claimed, without_noise = (
        trial.one_run(phases, count, plan[0], 1 - one_run_error, factor) for factor in (1.0, 0.0)
    )
    result: DPAudit = {
        "epsilon_lower": as_claimed.bound,
        "confidence": confidence,
        "delta": claim.delta,
        "claimed": claim.epsilon,
        "noise": NOISE,
        "max_detectable": without_noise.bound,
        "verdict": _verdict(claim.epsilon, as_claimed.bound, without_noise.bound, single),
        "guesses": plan[0].total,
        "correct": as_claimed.correct,
        "canaries": count,
        "updates": _total(phases),
        "updates_claimed": _total(claim.phases),
        "half_noise": plan[1],
        "notices_half_noise": bool(
            plan[1] > claim.epsilon or single.runs >= _needed(claim, single_error)
        ),
        "single_step": cast(
            SingleStepAudit,
            single._asdict() | {"contradicted": single.mu_lower > single.mu_claimed},
        ),
        "text": "",
    }
    result["text"] = _sentence(result)
    return result


def work(claim: Claim, setting: str = "fast", confidence: float = 0.95) -> int:
    """Returns the number of updates of `dp_audit`, the sum over calls of `done`."""
    if claim.epsilon is None:
        return 0
    budget = DP_AUDIT_BUDGETS[setting]
    runs = _runs(claim, budget, _shares(confidence)[0])
    return 2 * _total(first_updates(claim.phases, budget.updates)) + 2 * (runs + max(1, runs // 4))


def first_updates(phases: Sequence[MechanismRun], count: int) -> tuple[MechanismRun, ...]:
    """Returns the first `count` updates (whole epochs where they are shuffled, at least one).

    A bound from them also holds for all updates: seeing more never makes an attacker weaker.
    """
    first: list[MechanismRun] = []
    for phase in phases:
        if first and count <= 0:
            break
        steps = min(phase.steps, count)
        if phase.mechanism.sampling != POISSON and steps < phase.steps:
            epoch = phase.mechanism.steps_per_epoch
            steps = min(phase.steps, max(steps // epoch, 1) * epoch)
        count -= steps
        first.append(dataclasses.replace(phase, steps=steps))
    return tuple(first)


def _phase(values: DPPhase) -> MechanismRun:
    mechanism = SampledGaussian(
        values["noise_multiplier"],
        values["sampling_probability"],
        values["sampling"],
        rows=values["rows"],
    )
    return MechanismRun(mechanism, values["steps"])


def _total(phases: Sequence[MechanismRun]) -> int:
    return sum(phase.steps for phase in phases)


def _canaries(claim: Claim, budget: DPAuditBudget, asked: int | None) -> int:
    usual = budget.canaries if claim.clipping == "ghost" else budget.canaries_instantiated
    count = whole_square(usual if asked is None else max(asked, 0))
    if count < 4:
        raise UsageError(f"canaries={asked}: expected at least 4")
    return count


def _runs(claim: Claim, budget: DPAuditBudget, error: float) -> int:
    return min(budget.runs, max(budget.min_runs, _needed(claim, error)))


def _needed(claim: Claim, error: float) -> int:
    """Returns the number of repetitions of one update that detects half the noise."""
    return runs_needed(_min_noise(claim), error)


def _min_noise(claim: Claim) -> float:
    return min(phase.mechanism.noise_multiplier for phase in claim.phases)


def _shares(confidence: float) -> tuple[float, float]:
    """Splits 1 - confidence into the error probabilities of the single update and of one run."""
    error = 1 - confidence
    return error * _SINGLE_STEP_SHARE, error * (1 - _SINGLE_STEP_SHARE)


class _OneRun(NamedTuple):
    correct: int
    bound: float


@dataclasses.dataclass(frozen=True)
class _Trial:
    """Arguments that both tests share."""

    claim: Claim
    make_optimizer: MakeOptimizer
    key: SecretKey
    seed: int
    done: Callable[[int], None]

    def single_step(self, runs: int, error: float) -> SingleStep:
        """Repeats the update with the smallest noise."""
        assert self.claim.delta is not None
        return repeat_one_update(
            _min_noise(self.claim),
            self.claim.l2_norm_clip,
            self.claim.delta,
            runs=runs,
            error=error,
            clipping=self.claim.clipping,
            make_optimizer=self.make_optimizer,
            key=noise_key(self.key, "single step"),
            seed=self.seed,
            done=self.done,
        )

    def one_run(
        self,
        phases: Sequence[MechanismRun],
        canaries: int,
        guesses: Guesses,
        confidence: float,
        noise_factor: float,
    ) -> _OneRun:
        """Draws coins, runs the updates once and guesses the coins."""
        assert self.claim.delta is not None
        coins = self.key.derive(f"coins, noise times {noise_factor}").generator()
        included = coins.random(canaries) < 0.5
        scores = scores_of_one_run(
            phases,
            included,
            l2_norm_clip=self.claim.l2_norm_clip,
            noise_factor=noise_factor,
            clipping=self.claim.clipping,
            make_optimizer=self.make_optimizer,
            key=self.key.derive(f"noise times {noise_factor}"),
            done=self.done,
        )
        correct = count_correct(scores, included, guesses)
        delta = self.claim.delta
        bound = epsilon_lower_bound(canaries, guesses.total, correct, delta, confidence)
        return _OneRun(correct, bound)


def _verdict(claimed: float, lower: float, detectable: float, single: SingleStep) -> str:
    if lower > claimed or single.mu_lower > single.mu_claimed:
        return "contradicted"
    return "holds" if detectable > claimed else "no_power"


def _no_claim(claim: Claim, confidence: float) -> DPAudit:
    return {
        "epsilon_lower": None,
        "confidence": confidence,
        "delta": claim.delta,
        "claimed": None,
        "noise": NOISE,
        "max_detectable": None,
        "verdict": "no_claim",
        "guesses": 0,
        "correct": 0,
        "canaries": 0,
        "updates": 0,
        "updates_claimed": 0,
        "half_noise": None,
        "notices_half_noise": None,
        "single_step": None,
        "text": f"No claim to test: {claim.reason}.",
    }


def _sentence(audit: DPAudit) -> str:
    """Writes the result for a run with a claim as one sentence."""
    claimed, lower = audit["claimed"], audit["epsilon_lower"]
    detectable, single = audit["max_detectable"], audit["single_step"]
    assert claimed is not None and lower is not None and single is not None
    measured = (
        f"{audit['canaries']:,} canaries in {audit['updates']:,} of {audit['updates_claimed']:,} "
        f"updates show epsilon >= {lower:.2f} at {audit['confidence']:.0%} confidence"
    )
    if lower > claimed:
        return f"Contradicted: {measured}, above the claimed {claimed:.2f}."
    if single["contradicted"]:
        return (
            f"Contradicted: one update, {single['runs']:,} times with a canary and without, shows "
            f"epsilon >= {single['epsilon_lower']:.2f}, above the {single['epsilon_claimed']:.2f} "
            "that the claim allows it."
        )
    if audit["verdict"] == "no_power":
        return (
            f"No power: without any noise the same canaries would show only {detectable:.2f}, so "
            f"that the claimed {claimed:.2f} could not have been contradicted."
        )
    return (
        f"Not contradicted: {measured}, below the claimed {claimed:.2f}; without noise they would "
        f"show {detectable:.2f}, with half the noise about {audit['half_noise']:.2f}{_half(audit)}."
    )


def _half(audit: DPAudit) -> str:
    """Adds a clause if a fault as large as half the noise would have gone unnoticed."""
    if audit["notices_half_noise"]:
        return ""
    return (
        ", so that half the noise would not have been noticed by them, nor, in most cases, by one "
        "update that is repeated"
    )
