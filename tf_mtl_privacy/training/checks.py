"""Checks by fresh attackers during the joint phase, and the choice of the best networks.

Source: paper, section 3.2, step 4, which stops by such figures but keeps the last networks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tf_mtl_privacy.models.bundle import load_bundle_weights, save_bundle
from tf_mtl_privacy.removal import disabled
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.checkpoints import TrainingState
from tf_mtl_privacy.training.context import RunContext


class Checks:
    """Calls the run's check when one is due, and keeps the networks of the best checked epoch.

    Networks are ranked by the stop rule on validation rows (`schedule.shortfall`): by the number of
    parts that are not met, then by how much these miss together, each as a share of its bound, then
    by the upper end of the fresh attacker's accuracy; the later epoch wins ties. They are saved in
    a folder named after their epoch. The state names the best epoch, so that files of a killed
    process are ignored.

    Args:
        run: the run; without a check, or without a discriminator, nothing is checked.
        updates: returns the private updates made so far, by name.
    """

    def __init__(self, run: RunContext, updates: Callable[[], dict[str, int]] = dict) -> None:
        self._run, self._bundle, self._updates = run, run.bundle, updates
        self._every, self._folder = run.config.game.check_epochs, run.folder / "checkpoints/best"
        self._is_on = run.check is not None and run.config.train.has_discriminator
        self._keeps = self._is_on and run.config.game.checkpoint_selection == "best"

    def before_game(self, state: TrainingState) -> bool:
        """Checks the pre-trained encoder without its mask; returns True if that was still due."""
        if not self._is_on or state.before_game or state.epoch or state.step:
            return False
        with disabled(self._bundle.encoder):
            state.before_game = self._measure()
        return True

    def figures(self, finished: int, *, last: bool) -> dict[str, float]:
        """Checks after `finished` joint epochs; returns nothing if no check is due."""
        due = self._is_on and schedule.check_due(self._every, finished, last=last)
        return self._measure() if due else {}

    def _measure(self) -> dict[str, float]:
        assert self._run.check is not None
        figures: Mapping[str, Any] = self._run.check(self._bundle, self._run.dataset)
        return {name: float(value) for name, value in figures.items()}

    def keep(self, state: TrainingState, *, last: bool) -> None:
        """Keeps the networks of the epoch just finished if they are the best checked ones."""
        if not self._keeps or not schedule.check_due(self._every, state.epoch, last=last):
            return
        score = list(schedule.shortfall(state.stop_rule))
        if state.kept and state.kept["score"] < score:
            return
        save_bundle(self._bundle, self._at(state.epoch))
        state.kept = {
            "epoch": state.epoch,
            "score": score,
            "stop_rule": state.stop_rule,
            "updates": self._updates(),
        }

    def tidy(self, state: TrainingState) -> None:
        """Deletes networks that the saved state no longer names."""
        if state.kept:
            for path in self._folder.glob("epoch-*"):
                if path != self._at(state.kept["epoch"]):
                    shutil.rmtree(path, ignore_errors=True)

    def restore(self, state: TrainingState) -> None:
        """Restores the kept networks and their stop rule.

        Raises:
            RunError: their files are missing or damaged.
        """
        if state.kept:
            load_bundle_weights(self._bundle, self._at(state.kept["epoch"]))
            state.stop_rule = state.kept["stop_rule"]

    def updates_in_weights(self, state: TrainingState) -> dict[str, int]:
        """Returns the private updates, by name, that a finished run's weights have."""
        updates: dict[str, int] = state.kept["updates"] if state.kept else self._updates()
        return updates

    def _at(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch}"
