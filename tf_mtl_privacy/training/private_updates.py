"""Plans a run's private updates: their batches, their noise, and the budgets that they share.

Source: paper, section 3.2, steps 1 c, 2 and 3.3; docs/accounting.md lists the differences.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np

from tf_mtl_privacy.config import Config, GameConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.sampling import ShuffledEpochs
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.accounting.calibration import calibrated
from tf_mtl_privacy.privacy.accounting.epsilon import SEARCH, epsilon, why_no_less_noise
from tf_mtl_privacy.privacy.accounting.events import (
    FAR_BELOW,
    POISSON,
    SHUFFLED_EPOCHS,
    MechanismRun,
    SampledGaussian,
    check_delta,
    planned_steps,
)
from tf_mtl_privacy.privacy.batch_selection import (
    PoissonBatches,
    check_own_batches,
    limit_per_person,
    overflow_probability,
)
from tf_mtl_privacy.privacy.keys import SecretKey
from tf_mtl_privacy.privacy.ledger import LedgerHeader
from tf_mtl_privacy.privacy.optimizer import DPAdam
from tf_mtl_privacy.training.schedule import phase_epochs


class DiscriminatorUpdate(NamedTuple):
    """One discriminator update in each step of a phase, on batches of its own.

    Attributes:
        name: in the ledger and in checkpoints: `discriminator` or `adversarial_discriminator`, then
            `_2` and so on for a further discriminator, `_step_2` and so on for a further update.
        phase: the phase of training that makes it.
        member: number of the discriminator, from 0; the first one is saved.
        number: number of the update among its updates in a step, from 0.
    """

    name: str
    phase: str
    member: int
    number: int


def discriminator_updates(game: GameConfig) -> list[DiscriminatorUpdate]:
    """Lists the discriminator updates of a run, pre-training first.

    The first update of the joint phase uses the encoder's batch, each other one a batch of its own.
    """
    members = range(game.discriminators)
    before = [
        DiscriminatorUpdate(_name("discriminator", m, 0), "discriminator", m, 0) for m in members
    ]
    joint = [
        DiscriminatorUpdate(
            _name("adversarial_discriminator", member, number), "adversarial", member, number
        )
        for number in range(game.discriminator_steps)
        for member in members
    ]
    return before + joint


def order_seed(seed: int, name: str) -> int:
    """Returns a seed in [0, 2^63) for one order of rows, the same for the same seed and name."""
    digest = hashlib.blake2b(f"{seed}/order/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _name(kind: str, member: int, number: int) -> str:
    name = f"{kind}_{member + 1}" if member else kind
    return f"{name}_step_{number + 1}" if number else name


Sampler = PoissonBatches | ShuffledEpochs
# Overflow probability of batches without noise, for which no epsilon is stated.
_WITHOUT_NOISE = 1e-15
# Scope -> update -> the phase in which every step makes it once, with one discriminator.
UPDATES = {
    "discriminator": {
        "discriminator": "discriminator",
        "adversarial_discriminator": "adversarial",
    },
    "all": {
        "business": "business",
        "discriminator": "discriminator",
        "restorer": "restorer",
        "adversarial_discriminator": "adversarial",
        "adversarial_encoder": "adversarial",
        "adversarial_restorer": "adversarial",
    },
}


@dataclasses.dataclass(frozen=True)
class Update:
    """One kind of private update.

    Attributes:
        phase: the phase of training that makes it.
        sampler: its batches, of positions within the training rows.
        mechanism: its parameters for the accounting, with the calibrated noise.
        batch_size: divisor of the noisy sum.
        planned: number of updates in all epochs of the phase.
    """

    phase: str
    sampler: Sampler
    mechanism: SampledGaussian
    batch_size: float
    planned: int


@dataclasses.dataclass(frozen=True)
class Budget:
    """A target epsilon that some updates share.

    Attributes:
        updates: their names.
        target_epsilon: > 0, at the run's delta.
        missed: why no noise is small enough to reach the target; empty if it is reached.
    """

    updates: tuple[str, ...]
    target_epsilon: float
    missed: str = ""


@dataclasses.dataclass(frozen=True)
class PrivatePlan:
    """All private updates of a run.

    Attributes:
        updates: name -> update, in the order in which they first run.
        budgets: empty if the noise is given instead of a target.
        header: for the run's ledger.
        delta: of every epsilon.
    """

    updates: dict[str, Update]
    budgets: tuple[Budget, ...]
    header: LedgerHeader
    delta: float

    def of_phase(self, phase: str) -> tuple[str, ...]:
        """Returns the names of the private updates that each step of a phase makes."""
        return tuple(name for name, update in self.updates.items() if update.phase == phase)


def update_phases(config: Config) -> dict[str, str]:
    """Returns update -> the phase in which every step makes it once, in order."""
    if config.privacy.dp_scope == "all":
        return UPDATES["all"]
    return {update.name: update.phase for update in discriminator_updates(config.game)}


def private_plan(config: Config, dataset: Dataset, key: SecretKey) -> PrivatePlan | None:
    """Plans a run's private updates; returns None for a model without any.

    Args:
        config: the run's configuration.
        dataset: rows and labels.
        key: source of Poisson batches; new in every process.

    Raises:
        UsageError: no training row has a private label, delta is too large for the rows, or no
            noise reaches the target.
    """
    if not config.train.is_private:
        return None
    privacy, labels = config.privacy, dataset.labels("train").private
    everyone, labelled = np.arange(len(labels)), np.flatnonzero(labels >= 0)
    if not len(labelled):
        raise UsageError(
            f"--private_label={config.data.effective_private_label}: no training row has one, so "
            "the discriminator has nothing to learn; choose another label"
        )
    check_delta(privacy.delta, len(labels))
    rows = {
        name: labelled if phase == "discriminator" else everyone
        for name, phase in update_phases(config).items()
    }
    overflow = _overflow_probability(config, rows)
    updates = {}
    for name, phase in update_phases(config).items():
        sampler = _sampler(config, name, rows[name], key, overflow)
        mechanism, size = _mechanism(config, sampler, len(rows[name]))
        planned = planned_steps(phase_epochs(config)[phase], mechanism.sampling_probability)
        updates[name] = Update(phase, sampler, mechanism, size, planned)
    check_own_batches({name: update.sampler for name, update in updates.items()})
    budgets = _budgets(config, updates)
    updates = _with_noise(config, updates, budgets)
    budgets = tuple(_with_reason(budget, updates, privacy.delta) for budget in budgets)
    header = LedgerHeader(
        phases={name: update.mechanism for name, update in updates.items()},
        l2_norm_clip=privacy.l2_norm_clip,
        max_images_per_person=privacy.max_images_per_person,
    )
    return PrivatePlan(updates, budgets, header, privacy.delta)


def _overflow_probability(config: Config, rows: Mapping[str, np.ndarray]) -> float:
    """Returns the configured probability, or one too small to change the plan's epsilon."""
    privacy = config.privacy
    if privacy.overflow_probability or privacy.sampling != POISSON:
        return privacy.overflow_probability
    noise = 1.0 if _has_target(config) else privacy.noise_multiplier
    if noise == 0:
        return _WITHOUT_NOISE
    phases, epochs = [], phase_epochs(config)
    for name, phase in update_phases(config).items():
        mechanism = SampledGaussian(noise, min(1.0, config.train.batch_size / len(rows[name])))
        steps = planned_steps(epochs[phase], mechanism.sampling_probability)
        phases.append(MechanismRun(mechanism, steps))
    # The sum of two budgets bounds their joint cost.
    target = privacy.target_epsilon or (
        privacy.target_epsilon_pretrain + privacy.target_epsilon_adversarial
    )
    return overflow_probability(phases, privacy.delta, target, privacy.max_images_per_person)


def _sampler(
    config: Config, name: str, rows: np.ndarray, key: SecretKey, overflow: float
) -> Sampler:
    size = config.train.batch_size
    if config.privacy.sampling == POISSON:
        return PoissonBatches(
            rows,
            min(1.0, size / len(rows)),
            None if overflow else len(rows),
            overflow,
            key=key.derive(f"sampling/{name}"),
        )
    # Each in its own order; several updates of one step need not see the same rows.
    return ShuffledEpochs(rows, size, order_seed(config.train.seed, name))


def _mechanism(config: Config, sampler: Sampler, rows: int) -> tuple[SampledGaussian, float]:
    """Returns the mechanism with its noise (1 if it is to be calibrated), and the divisor."""
    privacy, size = config.privacy, float(config.train.batch_size)
    noise = 1.0 if _has_target(config) else privacy.noise_multiplier
    if isinstance(sampler, PoissonBatches):
        return sampler.mechanism(noise), sampler.expected_batch_size
    return SampledGaussian(noise, min(1.0, size / rows), SHUFFLED_EPOCHS, rows=rows), min(
        size, rows
    )


def _has_target(config: Config) -> bool:
    return bool(config.privacy.target_epsilon or config.privacy.target_epsilon_pretrain)


def _budgets(config: Config, updates: Mapping[str, Update]) -> tuple[Budget, ...]:
    privacy = config.privacy
    if privacy.target_epsilon:
        return (Budget(tuple(updates), privacy.target_epsilon),)
    if not privacy.target_epsilon_pretrain:
        return ()
    joint = tuple(name for name, update in updates.items() if update.phase == "adversarial")
    before = tuple(name for name in updates if name not in joint)
    return (
        Budget(before, privacy.target_epsilon_pretrain),
        Budget(joint, privacy.target_epsilon_adversarial),
    )


def _with_noise(
    config: Config, updates: dict[str, Update], budgets: tuple[Budget, ...]
) -> dict[str, Update]:
    """Returns the updates with the smallest noise that keeps every budget."""
    result = dict(updates)
    for budget in budgets:
        planned = [
            MechanismRun(updates[name].mechanism, updates[name].planned) for name in budget.updates
        ]
        if not any(phase.steps for phase in planned):
            continue
        phases = calibrated(planned, budget.target_epsilon, config.privacy.delta)
        for name, phase in zip(budget.updates, phases, strict=True):
            result[name] = dataclasses.replace(updates[name], mechanism=phase.mechanism)
    return result


def _with_reason(budget: Budget, updates: Mapping[str, Update], delta: float) -> Budget:
    """Returns the budget, with a reason if its updates stay far below the target."""
    planned = [
        MechanismRun(updates[name].mechanism, updates[name].planned) for name in budget.updates
    ]
    if not any(phase.steps for phase in planned):
        return budget
    reached, target = epsilon(planned, delta, interval=SEARCH), budget.target_epsilon
    if reached >= FAR_BELOW * target:
        return budget
    why = why_no_less_noise(planned, delta)
    # Rounded up, as every epsilon is.
    text = f"epsilon of the plan is {math.ceil(1000 * reached) / 1000:g}, not the target {target:g}"
    text += f"; with less noise no epsilon holds: {why}" if why else ""
    return dataclasses.replace(budget, missed=text)


def with_bounded_people(config: Config, dataset: Dataset) -> Dataset:
    """Limits a data set to `--max_images_per_person` training rows of each person.

    Raises:
        UsageError: the data has no identities, or adding a person changes which rows others have.
    """
    limit = config.privacy.max_images_per_person
    if not limit:
        return dataset
    data = config.data
    if data.split_version == 1 and data.dataset != "synthetic_faces":
        raise UsageError(
            f"--split_version=1: adding a person changes which rows others have, so that "
            f"--max_images_per_person={limit} gives no epsilon per person; leave out one of them"
        )
    rows = dataset.rows["train"]
    if dataset.person is None:
        raise UsageError(
            f"--max_images_per_person={limit}: the data has no identities; leave it out, or use "
            "data with identities (synthetic_faces: --private_label=identity)"
        )
    names = rows if dataset.keys is None else dataset.keys[rows]
    kept = limit_per_person(rows, dataset.person[rows], limit, config.train.seed, names=names)
    return dataclasses.replace(dataset, rows=dataset.rows | {"train": kept})


def private_adam(
    config: Config,
    model: keras.Model,
    name: str,
    update: Update,
    key: SecretKey,
    learning_rate: float,
) -> DPAdam:
    """Makes a private Adam with the noise, clip norm and divisor of an update.

    Args:
        config: the run's configuration.
        model: the network that is trained.
        name: the update's name.
        update: the planned update.
        key: makes the noise repeatable if it is a test key; else the noise has a key of its own.
        learning_rate: Adam's step size, > 0.

    Raises:
        UsageError: the model cannot be trained privately; see `privacy.guards`.
    """
    noise_key = int(key.derive(f"noise/{name}").words(1)[0]) if key.is_test else None
    return DPAdam(
        model,
        learning_rate=learning_rate,
        l2_norm_clip=config.privacy.l2_norm_clip,
        noise_multiplier=update.mechanism.noise_multiplier,
        expected_batch_size=update.batch_size,
        clipping=config.privacy.clipping,
        allow_zero_noise=config.privacy.allow_zero_noise,
        noise_key=noise_key,
    )
