"""A tiny run of `--dp_scope=all` on a tiny public backbone, and a process that dies in it."""

import dataclasses
import os
import signal
import sys

from tests import forks
from tests.training.tiny import tiny_config

# 72 rows in batches of 16 make 5 steps an epoch, two epochs a phase.
STEPS = 10
# Kind of private update -> the phase that makes it.
UPDATES = {
    "business": "business",
    "discriminator": "discriminator",
    "restorer": "restorer",
    "adversarial_discriminator": "adversarial",
    "adversarial_encoder": "adversarial",
    "adversarial_restorer": "adversarial",
}


def backbone_config(cache_dir):
    """A run on faces that are set aside, without a game and without privacy."""
    epochs = {
        f"{name}_epochs": 1 for name in ("business", "discriminator", "restorer", "adversarial")
    }
    config = tiny_config("mtl_adv", seed=5, **epochs)
    data = dataclasses.replace(
        config.data, cache_dir=str(cache_dir), synthetic_stream="backbone", synthetic_shift="light"
    )
    return dataclasses.replace(config, data=data)


def all_private_config(cache_dir, backbone, target_epsilon=0.0, **train):
    """Everything private, from the run in the folder `backbone`."""
    config = tiny_config("mtl_adv_dp", **({"early_gates": False} | train))
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, cache_dir=str(cache_dir)),
        model=dataclasses.replace(config.model, backbone=str(backbone)),
        privacy=dataclasses.replace(
            config.privacy, dp_scope="all", target_epsilon=target_epsilon, noise_multiplier=3.0
        ),
    )


def train_in_process(run_dir, cache_dir, backbone, target_epsilon=0.0, die_at=0, untraced=False):
    """Trains `all_private_config` in a process of its own, which kills itself (SIGKILL) in a step.

    `die_at` counts the steps of all phases from 1. The process dies when all updates of that step
    but the last have been made, and before any is booked; with 0 it lives. `untraced` as in
    conftest.py. Returns its exit code.
    """
    arguments = [run_dir, cache_dir, backbone, target_epsilon, die_at]
    done = forks.run_module(
        "tests.training.tiny_private", *arguments, cwd=os.getcwd(), timeout=600, untraced=untraced
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr[-2000:])
    return done.returncode


def _main(run_dir, cache_dir, backbone, target_epsilon, die_at):
    from tf_mtl_privacy.training.fit import fit
    from tf_mtl_privacy.training.phases import PrivatePhases

    make = PrivatePhases._make_steps

    def make_steps(self):
        steps = make(self)
        last = "adversarial_restorer"

        def dying(name, step):
            def take(kept, batch):
                alone = not name.startswith("adversarial") or name == last
                if alone and self._run.state.total_steps + 1 == int(die_at):
                    if name != last:
                        step(kept, batch)
                    os.kill(os.getpid(), signal.SIGKILL)
                return step(kept, batch)

            return take

        return {name: dying(name, step) for name, step in steps.items()}

    PrivatePhases._make_steps = make_steps
    fit(all_private_config(cache_dir, backbone, float(target_epsilon)), run_dir=run_dir)


if __name__ == "__main__":
    _main(*sys.argv[1:])
