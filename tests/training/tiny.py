"""A configuration that trains in seconds, and a process that dies where a test wants it to."""

import os
import signal
import subprocess
import sys

from tf_mtl_privacy.config import Config, DataConfig, LossConfig, ModelConfig, TrainConfig


def tiny_config(model: str = "mtl_adv", **train) -> Config:
    options = {
        "batch_size": 16,
        "business_epochs": 2,
        "discriminator_epochs": 2,
        "restorer_epochs": 2,
        "adversarial_epochs": 2,
        "checkpoint_steps": 2,
    }
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
    )


def train_in_process(run_dir, cache_dir, model, die_at=0, *, die_closing=False, timeout=300):
    """Trains `tiny_config(model)` in a process of its own.

    With `die_at` the process kills itself (SIGKILL) right after that many updates, before it can
    book or save the last one; with `die_closing` where it would delete the cached features.
    Returns its exit code.
    """
    death = "closing" if die_closing else die_at
    command = [sys.executable, "-m", "tests.training.tiny", run_dir, cache_dir, model, death]
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [str(part) for part in command],
        env=environment,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(done.stderr[-2000:])
    return done.returncode


def _main(run_dir: str, cache_dir: str, model: str, death: str) -> None:
    import dataclasses

    from tf_mtl_privacy.training import feature_cache, record
    from tf_mtl_privacy.training.fit import fit

    book = record.RunRecord.count_step

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    def count_step(self, *args):
        if self.total_steps + 1 == int(death):
            die()
        book(self, *args)

    if death == "closing":
        feature_cache.FeatureCache.close = die
    else:
        record.RunRecord.count_step = count_step
    config = tiny_config(model)
    data = dataclasses.replace(config.data, cache_dir=cache_dir)
    fit(dataclasses.replace(config, data=data), run_dir=run_dir)


if __name__ == "__main__":
    _main(*sys.argv[1:])
