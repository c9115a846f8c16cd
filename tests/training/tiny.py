"""A configuration that trains in seconds, and a process that dies at a given point."""

import dataclasses
import json
import os
import signal
import sys

import numpy as np

from tests import forks
from tf_mtl_privacy.config import (
    Config,
    DataConfig,
    LossConfig,
    ModelConfig,
    PrivacyConfig,
    RemovalConfig,
    TrainConfig,
)
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.privacy.keys import key_for_tests

EPOCHS = ("business_epochs", "discriminator_epochs", "restorer_epochs", "adversarial_epochs")


def tiny_config(
    model: str = "mtl_adv", privacy: dict | None = None, removal: dict | None = None, **train
) -> Config:
    options = dict.fromkeys(EPOCHS, 2) | {"batch_size": 16, "checkpoint_steps": 2}
    return Config(
        data=DataConfig(image_size=32, train_rows=72, validation_rows=24, test_rows=24),
        model=ModelConfig(
            compact_width=8,
            feature_channels=4,
            business_units=8,
            discriminator="dense",
            discriminator_units=8,
            restorer_width=8,
        ),
        loss=LossConfig(),
        train=TrainConfig(model=model, **(options | train)),
        privacy=PrivacyConfig(**(privacy or {})),
        removal=RemovalConfig(**(removal or {})),
    )


def private_config(privacy: dict | None = None, **train) -> Config:
    """Returns a configuration that trains only the discriminator, by default for two epochs."""
    epochs = dict.fromkeys(EPOCHS, 0) | {"discriminator_epochs": 2, "early_gates": False}
    return tiny_config("mtl_adv_dp", privacy, **(epochs | train))


def tiny_arrays(rows=40, unlabelled=0, store=None, **columns) -> Dataset:
    """Random pictures: `rows` to train on, the last `unlabelled` of them without a private label,
    and 12 more for validation."""
    total = rows + 12
    private = np.arange(total) % 3
    private[rows - unlabelled : rows] = -1
    dataset = Dataset.from_arrays(
        np.random.default_rng(0).integers(0, 256, (total, 32, 32, 3)).astype(np.uint8),
        {"gender": np.arange(total) // 2 % 2},
        private,
        split=np.repeat([0, 1], [rows, 12]),
        **columns,
    )
    return dataset if store is None else dataclasses.replace(dataset, store=store(dataset.store))


def new_run(config, dataset, folder, *, key=3, phase="", beta=None):
    """The context of a run on one task, as `fit` makes it; no step of it is taken."""
    from tf_mtl_privacy.training import context

    run = context.new_run(config, dataset, folder, ("gender",), key_for_tests(key))
    run.state.phase = phase or run.state.phase
    run.state.beta = run.state.beta if beta is None else beta
    return run


def train_in_process(
    run_dir, cache_dir, model, death="", *, timeout=600, test_key=None, backbone="", **options
):
    """Trains `tiny_config(model, **options)` in a process of its own, which may kill itself.

    `death` says where (SIGKILL), in updates of all phases: "step:17" right after the 17th, before
    it is counted or saved; "between:17" before the last update of the 17th step, after the others;
    "saved:17" with the checkpoint that holds 17, before the ledger is settled; "reserved:NAME:8"
    once 8 updates of that name are reserved; "closing" where the cached features would be deleted.
    For each step that ran, a line with its phase is added to `run_dir`.ran. With `backbone`, a run
    folder, the configuration is `tiny_private.all_private_config`. `untraced=True` as in
    conftest.py. Returns the exit code.
    """
    job = {"model": model, "death": death, "test_key": test_key, "backbone": str(backbone)}
    job["untraced"] = options.pop("untraced", False)
    arguments = run_dir, cache_dir, json.dumps(job | {"options": options})
    done = forks.run_module("tests.training.tiny", *arguments, cwd=os.getcwd(), timeout=timeout)
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr[-2000:])
    return done.returncode


def _die(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def _arm(ran, death):
    """Replaces the functions at which the process must die by ones that do; counts the steps."""
    from tf_mtl_privacy.privacy.ledger import Ledger
    from tf_mtl_privacy.training.batches import FeatureCache
    from tf_mtl_privacy.training.checkpoints import Checkpoints, TrainingState
    from tf_mtl_privacy.training.phases import PrivatePhases

    kind, _, where = death.partition(":")
    count, save, reserve = TrainingState.count_step, Checkpoints.save, Ledger.reserve
    make_steps = PrivatePhases._make_steps

    def count_step(self, *args):
        os.write(ran, f"{self.phase}\n".encode())
        if kind == "step" and self.total_steps + 1 == int(where):
            _die()
        count(self, *args)

    def saving(self, record):
        save(self, record)
        if kind == "saved" and sum(record["steps"].values()) == int(where):
            _die()

    def reserving(self, phase, count):
        reserve(self, phase, count)
        if kind == "reserved" and where == f"{phase}:{self.covered(phase)}":
            _die()

    def dying_steps(self):
        last = "adversarial_restorer"

        def dying(name, step):
            def take(features, batch):
                alone = not name.startswith("adversarial") or name == last
                if alone and self._run.state.total_steps + 1 == int(where):
                    if name != last:
                        step(features, batch)
                    _die()
                return step(features, batch)

            return take

        return {name: dying(name, step) for name, step in make_steps(self).items()}

    TrainingState.count_step, Checkpoints.save, Ledger.reserve = count_step, saving, reserving
    if kind == "closing":
        FeatureCache.close = _die
    if kind == "between":
        PrivatePhases._make_steps = dying_steps


def _main(run_dir: str, cache_dir: str, text: str) -> None:
    import tensorflow as tf

    from tests.training.tiny_private import all_private_config
    from tf_mtl_privacy.training.fit import fit

    job = json.loads(text)
    tf.config.run_functions_eagerly(job["untraced"])
    _arm(os.open(f"{run_dir}.ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT), job["death"])
    if job["backbone"]:
        config = all_private_config(cache_dir, job["backbone"], **job["options"])
    else:
        config = tiny_config(job["model"], **job["options"])
        data = dataclasses.replace(config.data, cache_dir=cache_dir)
        config = dataclasses.replace(config, data=data)
    fit(config, run_dir=run_dir, test_key=job["test_key"])


if __name__ == "__main__":
    _main(*sys.argv[1:])
