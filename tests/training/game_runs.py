"""Tiny runs with several discriminators, in this process, which a test may interrupt."""

import dataclasses

import numpy as np

from tests.training.tiny import tiny_arrays, tiny_config
from tf_mtl_privacy.config import Config, GameConfig
from tf_mtl_privacy.training import trainer
from tf_mtl_privacy.training.checkpoints import TrainingState
from tf_mtl_privacy.training.fit import fit

# 40 rows in batches of 16: 3 steps an epoch.
STEPS, EPOCHS = 3, 2
LARGE = {"discriminators": 2, "discriminator_steps": 2, "discriminator_restart_epochs": 1}
ONLY_GAME = {
    "business_epochs": 0,
    "discriminator_epochs": 1,
    "restorer_epochs": 0,
    "adversarial_epochs": EPOCHS,
    "early_gates": False,
}


def game_config(model="mtl_adv_dp", game=None, privacy=None, loss=None, **train) -> Config:
    """Pre-trains only the discriminators, for an epoch, then runs the joint phase."""
    config = tiny_config(model, privacy or {"noise_multiplier": 2.0}, **(ONLY_GAME | train))
    return dataclasses.replace(
        config,
        game=GameConfig(**(game or {})),
        loss=dataclasses.replace(config.loss, **(loss or {})),
    )


def interrupted_fit(config, run_dir, monkeypatch, after, **options):
    """Trains a run and interrupts it, as Ctrl-C does, after `after` steps of the whole run."""
    book = TrainingState.count_step
    pressed = []

    class Pressed(trainer.Interrupt):
        @property
        def requested(self):
            return bool(pressed)

        @requested.setter
        def requested(self, value):
            pass

    def count_step(self, *args):
        book(self, *args)
        if self.total_steps == after:
            pressed.append(True)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "count_step", count_step)
        patch.setattr("tf_mtl_privacy.training.trainer.Interrupt", Pressed)
        try:
            fit(config, tiny_arrays(), run_dir=run_dir, **options)
        except KeyboardInterrupt:
            return
    raise AssertionError("the run ended before it was interrupted")


def weights(run):
    return {
        f"{name}/{variable.path}": np.array(variable)
        for name, model in run.bundle.items()
        for variable in model.variables
    }
