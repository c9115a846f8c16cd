"""The audit of a run's private updates: a lower bound on epsilon beside the epsilon claimed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.dp_audit.bound import epsilon_lower_bound
from tf_mtl_privacy.evaluation.dp_audit.claim import Claim
from tf_mtl_privacy.evaluation.dp_audit.guessing import Guesses, count_correct, plan_guesses
from tf_mtl_privacy.evaluation.dp_audit.one_run import scores_of_one_run, whole_square
from tf_mtl_privacy.evaluation.dp_audit.settings import SETTINGS, Setting
from tf_mtl_privacy.evaluation.dp_audit.single_step import (
    SingleStep,
    repeat_one_update,
    runs_needed,
)
from tf_mtl_privacy.evaluation.dp_audit.updates import MakeOptimizer, noise_key, shipped_optimizer
from tf_mtl_privacy.evaluation.dp_audit.words import sentence
from tf_mtl_privacy.privacy.accounting_events import POISSON, Phase
from tf_mtl_privacy.privacy.keys import SecretKey, secret_key
from tf_mtl_privacy.privacy.noise_record import NOISE

# The single update's share of what both tests together may err.
_SINGLE_STEP_SHARE = 0.2


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
) -> dict[str, Any]:
    """Tries to contradict a claim with canaries, on the code that makes the run's updates.

    Two tests share what the verdict may err, 1 - confidence: canaries inserted in one run with the
    run's settings (`one_run`), and one update repeated many times (`single_step`). They say
    nothing of the run's own weights: they ask whether clipping, noise and sampling, as they are
    coded, with these settings, can be as private as the accounting says.

    Args:
        claim: from `claim_of`.
        setting: 'fast' or 'thorough', see `settings`.
        canaries: another number of canaries than the setting's; rounded down to a square.
        confidence: of the verdict, in (0, 1).
        seed: of simulations and of the single update's network. Coins, noise and batches come from
            the operating system.
        make_optimizer: makes the private optimizer; another one plants a fault.
        key: a test's, which makes coins, noise and batches repeatable.
        done: called with the number of updates done; `work` says how many there will be.

    Returns:
        `epsilon_lower`, `confidence`, `delta`, `claimed`, `noise` (`noise_record.NOISE`),
        `max_detectable` (what the same guesses show without noise), `verdict` ("holds",
        "contradicted", "no_power" or "no_claim"), `guesses`, `correct`, `canaries`, `text` (one
        sentence); further `updates` and `updates_claimed` (how many of the claim's updates were
        run), `half_noise` (what the audit could expect to find were the noise half of what is
        claimed), `notices_half_noise` (whether one of the two tests would in most cases have
        contradicted the claim then), and `single_step` (see `SingleStep`, with `contradicted`).
        None for what was not measured.

    Raises:
        UsageError: no such setting, or fewer than 4 canaries.
    """
    if setting not in SETTINGS:
        raise UsageError(f"setting={setting!r}: expected {' or '.join(SETTINGS)}")
    if claim.epsilon is None or claim.delta is None:
        return _no_claim(claim, confidence)
    key, effort = key or secret_key(), SETTINGS[setting]
    single_error, one_run_error = _shares(confidence)
    trial = _Trial(claim, make_optimizer, key, seed, done)
    single = trial.single_step(_runs(claim, effort, single_error), single_error)
    phases, count = first_updates(claim.phases, effort.updates), _canaries(claim, effort, canaries)
    plan = plan_guesses(phases, count, claim.delta, 1 - one_run_error, seed)
    as_claimed, without_noise = (
        trial.one_run(phases, count, plan[0], 1 - one_run_error, factor) for factor in (1.0, 0.0)
    )
    result: dict[str, Any] = {
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
        "single_step": single._asdict() | {"contradicted": single.mu_lower > single.mu_claimed},
    }
    return result | {"text": sentence(result)}


def work(claim: Claim, setting: str = "fast", confidence: float = 0.95) -> int:
    """Updates that `dp_audit` will make: what `done` adds up to."""
    if claim.epsilon is None:
        return 0
    effort = SETTINGS[setting]
    runs = _runs(claim, effort, _shares(confidence)[0])
    return 2 * _total(first_updates(claim.phases, effort.updates)) + 2 * (runs + max(1, runs // 4))


def first_updates(phases: Sequence[Phase], most: int) -> tuple[Phase, ...]:
    """The first `most` updates (whole epochs where they are shuffled, at least one).

    What they show, all of them show: seeing more never makes an attacker weaker.
    """
    kept: list[Phase] = []
    for phase in phases:
        if kept and most <= 0:
            break
        steps = min(phase.steps, most)
        if phase.mechanism.sampling != POISSON and steps < phase.steps:
            epoch = phase.mechanism.steps_per_epoch
            steps = min(phase.steps, max(steps // epoch, 1) * epoch)
        most -= steps
        kept.append(dataclasses.replace(phase, steps=steps))
    return tuple(kept)


def _total(phases: Sequence[Phase]) -> int:
    return sum(phase.steps for phase in phases)


def _canaries(claim: Claim, effort: Setting, asked: int | None) -> int:
    most = effort.canaries if claim.clipping == "ghost" else effort.canaries_instantiated
    count = whole_square(most if asked is None else max(asked, 0))
    if count < 4:
        raise UsageError(f"canaries={asked}: expected at least 4")
    return count


def _runs(claim: Claim, effort: Setting, error: float) -> int:
    return min(effort.runs, max(effort.least_runs, _needed(claim, error)))


def _needed(claim: Claim, error: float) -> int:
    """Repetitions of one update with which half the noise is noticed."""
    return runs_needed(_least_noise(claim), error)


def _least_noise(claim: Claim) -> float:
    return min(phase.mechanism.noise_multiplier for phase in claim.phases)


def _shares(confidence: float) -> tuple[float, float]:
    """What the single update and the canaries in one run may err; together 1 - confidence."""
    error = 1 - confidence
    return error * _SINGLE_STEP_SHARE, error * (1 - _SINGLE_STEP_SHARE)


class _OneRun(NamedTuple):
    correct: int
    bound: float


@dataclasses.dataclass(frozen=True)
class _Trial:
    """What both tests have in common."""

    claim: Claim
    make_optimizer: MakeOptimizer
    key: SecretKey
    seed: int
    done: Callable[[int], None]

    def single_step(self, runs: int, error: float) -> SingleStep:
        """The update with the least noise, repeated."""
        assert self.claim.delta is not None
        return repeat_one_update(
            _least_noise(self.claim),
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
        phases: Sequence[Phase],
        canaries: int,
        guesses: Guesses,
        confidence: float,
        noise_factor: float,
    ) -> _OneRun:
        """New coins, one run, the guesses."""
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


def _verdict(claimed: float, lower: float, most: float, single: SingleStep) -> str:
    if lower > claimed or single.mu_lower > single.mu_claimed:
        return "contradicted"
    return "holds" if most > claimed else "no_power"


def _no_claim(claim: Claim, confidence: float) -> dict[str, Any]:
    nothing = (
        *("epsilon_lower", "claimed", "max_detectable"),
        *("half_noise", "notices_half_noise", "single_step"),
    )
    zero = ("guesses", "correct", "canaries", "updates")
    result: dict[str, Any] = dict.fromkeys(nothing) | dict.fromkeys(zero, 0)
    result |= {
        "confidence": confidence,
        "delta": claim.delta,
        "noise": NOISE,
        "verdict": "no_claim",
        "updates_claimed": 0,
    }
    return result | {"text": f"No claim to test: {claim.reason}."}
