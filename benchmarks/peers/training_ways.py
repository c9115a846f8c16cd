"""Training steps with and without DP, as in a run, on random pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from interleave import Way

from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data import synthetic_faces
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.privacy.keys import secret_key
from tf_mtl_privacy.training import steps
from tf_mtl_privacy.training.batches import Batches, drawn
from tf_mtl_privacy.training.budget_enforcer import BudgetEnforcer
from tf_mtl_privacy.training.context import new_run
from tf_mtl_privacy.training.phases import Phases
from tf_mtl_privacy.training.private_updates import PrivatePlan, private_adam, private_plan
from tf_mtl_privacy.types import Phase

VALIDATION_ROWS = 256
# A fixed noise multiplier saves its calibration and does not affect a step's time.
GIVEN_NOISE = ("--target_epsilon=0", "--noise_multiplier=1")


def configuration(flagfile: str, model: str, flags: Sequence[str] = ()) -> Config:
    """Returns a shipped flagfile's configuration for a model, with further flags."""
    return parse("train", [f"--flagfile={flagfile}", f"--model={model}", *flags]).config


def random_faces(config: Config, rows: int) -> Dataset:
    """Returns random pictures with synthetic labels: `rows` for training, a few for validation.

    The content does not affect the time.
    """
    count, size = rows + VALIDATION_ROWS, config.data.image_size
    generator = np.random.default_rng(0)
    images = np.frombuffer(generator.bytes(count * size * size * 3), np.uint8)
    classes = synthetic_faces.ATTRIBUTES
    numbers = np.arange(count)
    return Dataset.from_arrays(
        images.reshape(count, size, size, 3),
        {name: numbers % len(classes[name]) for name in ("gender", "age", "expression")},
        numbers % len(classes["iris"]),
        split=(numbers >= rows).astype(np.int64),
    )


def built(config: Config, dataset: Dataset, folder: Path) -> tuple[Phases, PrivatePlan | None]:
    """Builds a run's phases with new networks, and the plan of its private updates."""
    run = new_run(config, dataset, folder, tuple(dataset.task_classes), secret_key())
    run.state.phase = "adversarial"
    return Phases(run), run.plan


def in_epochs(read: Callable[[int, int], Any], steps_per_epoch: int) -> Callable[[int], Any]:
    """Converts `read(epoch, step)` to a function of one step number."""
    return lambda number: read(*divmod(number, steps_per_epoch))


def counted(mask: tf.Tensor) -> tuple[int, int]:
    """Returns the rows of a batch, without and with padding."""
    return int(np.sum(mask)), len(mask)


def adversarial_ways(flags: Sequence[str], rows: int, folder: Path) -> list[Way]:
    """Builds the joint step of synthetic.cfg, with further flags, with DP and without.

    With DP: Poisson batches, and `DPAdam` for the discriminator. Without: shuffled epochs and Adam.
    """
    ways, dataset = [], None
    for name, model in (("dp", "mtl_adv_dp"), ("plain", "mtl_adv")):
        config = configuration("synthetic.cfg", model, (*GIVEN_NOISE, *flags))
        dataset = dataset or random_faces(config, rows)
        phases, _ = built(config, dataset, folder / name)
        phase = phases.build("adversarial")
        read = in_epochs(phase.inputs, phase.steps_per_epoch)
        ways.append(Way(name, read, phase.step, lambda inputs: counted(inputs[0].mask)))
    return ways


def pretraining_ways(
    flags: Sequence[str], rows: int, folder: Path
) -> tuple[list[Way], Callable[[], float], Phases]:
    """Builds the discriminator's private pre-training: on cached features, and with the encoder.

    Returns:
        Both variants, which draw the same batches; a function that fills the cache and returns its
        seconds; and the phases, to close at the end, which deletes the cache.
    """
    config = configuration("synthetic.cfg", "mtl_adv_dp", (*GIVEN_NOISE, *flags))
    dataset = random_faces(config, rows)
    phases, plan = built(config, dataset, folder)
    phase = phases.build("discriminator")
    name = "discriminator"
    read = in_epochs(lambda epoch, number: phase.inputs(epoch, number)[name], phase.steps_per_epoch)
    cached = Way(
        "cached features", read, lambda row: phase.step({name: row}), lambda row: counted(row[2])
    )

    def fill() -> float:
        begun = time.perf_counter()
        phase.inputs(0, 0)
        return time.perf_counter() - begun

    return [cached, _through_encoder(config, dataset, plan, phase)], fill, phases


def _through_encoder(
    config: Config, dataset: Dataset, plan: PrivatePlan | None, phase: Phase
) -> Way:
    """Builds the same step including the frozen encoder, on other networks."""
    name = "discriminator"
    update_plan = plan.updates[name]
    tasks = {task: len(classes) for task, classes in dataset.task_classes.items()}
    bundle = build_bundle(config, tasks, len(dataset.private_classes))
    rate = config.train.discriminator_learning_rate
    optimizer = private_adam(config, bundle.discriminator, name, update_plan, secret_key(), rate)
    update = steps.make_discriminator_update(bundle.discriminator, optimizer)
    batches = Batches(config, dataset, list(tasks), plan)

    @tf.function(reduce_retracing=True)
    def step(batch: Any) -> dict[str, tf.Tensor]:
        features = bundle.encoder(to_float(batch.image), training=False)
        return {"discriminator_loss": update(features, batch.private, batch.mask)}

    read = in_epochs(
        lambda epoch, number: batches.batch(*drawn(update_plan.sampler, epoch, number)),
        phase.steps_per_epoch,
    )
    return Way("encoder each epoch", read, step, lambda batch: counted(batch.mask))


class _Count:
    """Replaces an optimizer: the ledger reads its number of updates."""

    iterations = 0


def ledger_ms(rows: int, folder: Path, epochs: int) -> float:
    """Measures the mean time per step, in ms, to count synthetic.cfg's private updates on disk.

    As in the training loop, the ledger is written ahead of steps and settled at checkpoints and at
    the end of epochs, for at most `epochs` of each private phase. The calibration, once in a run,
    is not included.
    """
    config = configuration("synthetic.cfg", "mtl_adv_dp", (f"--train_rows={rows}",))
    plan = private_plan(config, _labels_only(rows), secret_key())
    counts = {name: _Count() for name in plan.updates}
    every, done = config.train.checkpoint_steps, 0
    with BudgetEnforcer(folder, plan, counts, run_id="", block=every, void="") as spending:
        begun = time.perf_counter()
        for name, update in plan.updates.items():
            in_epoch = update.sampler.steps_per_epoch
            for number in range(min(update.planned, epochs * in_epoch)):
                if not spending.cover(update.phase, update.planned - number):
                    raise RuntimeError(f"{name}: its budget ended after {number} updates")
                counts[name].iterations += 1
                step = (number + 1) % in_epoch
                if step == 0 or step % every == 0:
                    spending.settle()
                done += 1
        return 1e3 * (time.perf_counter() - begun) / done


def _labels_only(rows: int) -> Dataset:
    """Returns a data set with private labels and empty pictures."""
    number = np.arange(rows)
    images = np.zeros((rows, 1, 1, 3), np.uint8)
    return Dataset.from_arrays(images, {}, number % 8, split=np.zeros(rows, np.int64))
