"""The audit of a run's private updates: a lower bound on epsilon beside the epsilon claimed.

How much an audit of the private updates does.

The sentence that stands under an audit's figures.

What a run claims about one example's privacy, taken from its results. No TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.dp_audit.bound import (
    Guesses,
    count_correct,
    epsilon_lower_bound,
    plan_guesses,
)
from tf_mtl_privacy.evaluation.dp_audit.one_run import scores_of_one_run, whole_square
from tf_mtl_privacy.evaluation.dp_audit.single_step import (
    SingleStep,
    repeat_one_update,
    runs_needed,
)
from tf_mtl_privacy.evaluation.dp_audit.updates import MakeOptimizer, noise_key, shipped_optimizer
from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.keys import SecretKey, secret_key
from tf_mtl_privacy.privacy.noise_record import NOISE


@dataclasses.dataclass(frozen=True)
class Setting:
    """One amount of effort.

    Attributes:
        canaries: inserted in one run, a square number.
        canaries_instantiated: the same for clipping backends that hold every example's gradient.
        updates: most updates that are run; the first ones, if there are more.
        least_runs: repetitions of the single update, with the canary and as many without, even
            where fewer would notice half the noise.
        runs: most repetitions.
    """

    canaries: int
    canaries_instantiated: int
    updates: int
    least_runs: int
    runs: int


SETTINGS = {
    "fast": Setting(
        canaries=200**2, canaries_instantiated=100**2, updates=2_000, least_runs=500, runs=4_000
    ),
    "thorough": Setting(
        canaries=320**2,
        canaries_instantiated=100**2,
        updates=20_000,
        least_runs=10_000,
        runs=20_000,
    ),
}


def sentence(found: Mapping[str, Any]) -> str:
    """One sentence on what the audit of a claim found.

    Args:
        found: what `dp_audit` returns, for a run with a claim.
    """
    claimed, lower, most = (found[k] for k in ("claimed", "epsilon_lower", "max_detectable"))
    single = found["single_step"]
    measured = (
        f"{found['canaries']:,} canaries in {found['updates']:,} of {found['updates_claimed']:,} "
        f"updates show epsilon >= {lower:.2f} at {found['confidence']:.0%} confidence"
    )
    if lower > claimed:
        return f"Contradicted: {measured}, above the claimed {claimed:.2f}."
    if single["contradicted"]:
        return (
            f"Contradicted: one update, {single['runs']:,} times with a canary and without, shows "
            f"epsilon >= {single['epsilon_lower']:.2f}, above the {single['epsilon_claimed']:.2f} "
            "that the claim allows it."
        )
    if found["verdict"] == "no_power":
        return (
            f"No power: without any noise the same canaries would show only {most:.2f}, so that "
            f"the claimed {claimed:.2f} could not have been contradicted."
        )
    return (
        f"Not contradicted: {measured}, below the claimed {claimed:.2f}; without noise they would "
        f"show {most:.2f}, with half the noise about {found['half_noise']:.2f}{_half(found)}."
    )


def _half(found: Mapping[str, Any]) -> str:
    """What could be told of a fault as large as half the noise."""
    if found["notices_half_noise"]:
        return ""
    return (
        ", so that half the noise would not have been noticed by them, nor, in most cases, by one "
        "update that is repeated"
    )


_NOTHING_RELEASED = "no released weight has an epsilon"


@dataclasses.dataclass(frozen=True)
class Claim:
    """An epsilon, and the updates that it is claimed for.

    Attributes:
        phases: the private updates that ran.
        l2_norm_clip: C of all of them, > 0.
        delta: for which epsilon is claimed; None where nothing is.
        epsilon: what is claimed, > 0; None where nothing is.
        clipping: the clipping backend of the run.
        reason: why nothing is claimed; empty where something is.
    """

    phases: tuple[MechanismRun, ...]
    l2_norm_clip: float
    delta: float | None
    epsilon: float | None
    clipping: str = "ghost"
    reason: str = ""


def claim_of(dp: Mapping[str, Any], clipping: str = "ghost") -> Claim:
    """The claim of a run.

    A conditional epsilon (`dp.conditional`) is none: it holds for no weight that is released.

    Args:
        dp: the `dp` part of results.json.
        clipping: the run's `--clipping`.

    Returns:
        The largest epsilon of a released part, with its updates; `epsilon` None and a reason where
        every part's is null.
    """
    claimed = [value for value in dp["released"].values() if value is not None]
    phases = tuple(_phase(values) for values in dp["phases"].values())
    ran = tuple(phase for phase in phases if phase.steps)
    reason = dp.get("reason") or _NOTHING_RELEASED
    if not claimed or not ran:
        return Claim(ran, dp.get("l2_norm_clip") or 0.0, dp["delta"], None, clipping, reason)
    return Claim(ran, dp["l2_norm_clip"], dp["delta"], max(claimed), clipping)


def no_claim(reason: str) -> Claim:
    """The claim of a run that makes none.

    Args:
        reason: why; completes "No claim to test: ...".
    """
    return Claim((), 0.0, None, None, reason=reason)


def _phase(values: Mapping[str, Any]) -> MechanismRun:
    mechanism = SampledGaussian(
        values["noise_multiplier"],
        values["sampling_probability"],
        values["sampling"],
        rows=values["rows"],
    )
    return MechanismRun(mechanism, values["steps"])


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


def first_updates(phases: Sequence[MechanismRun], most: int) -> tuple[MechanismRun, ...]:
    """The first `most` updates (whole epochs where they are shuffled, at least one).

    What they show, all of them show: seeing more never makes an attacker weaker.
    """
    kept: list[MechanismRun] = []
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


def _total(phases: Sequence[MechanismRun]) -> int:
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
        phases: Sequence[MechanismRun],
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
