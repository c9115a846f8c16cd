"""What a fresh attacker finds along the joint phase, and the networks that come off best.

Source: paper, section 3.2, step 4, which stops by such figures but keeps the last networks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.models.bundle import Bundle, load_bundle_weights, save_bundle
from tf_mtl_privacy.removal.mask import is_masked, switch_mask
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.checkpoints import TrainingState

Check = Callable[[], Mapping[str, float]]


class Checks:
    """Calls a check where one is due, and keeps the networks of the best checked epoch.

    Networks are chosen by the stop rule on validation rows (`schedule.shortfall`): the fewest
    parts that are not met, then the least that these miss together, each as a share of its bound,
    then the lowest figure of the fresh attacker, then the later epoch. They lie in a folder named
    after their epoch; the record says which is the one, so that what a killed process left there
    does not count.

    Args:
        config: the run's configuration.
        bundle: what is checked and kept.
        folder: for networks that are kept.
        measure: the check; None where there is none.
        updates: -> private updates made so far, by name.
    """

    def __init__(
        self,
        config: Config,
        bundle: Bundle,
        folder: Path,
        measure: Check | None,
        updates: Callable[[], dict[str, int]] = dict,
    ) -> None:
        self._every, self._bundle, self._folder = config.game.check_epochs, bundle, folder
        self._measure = measure if config.train.has_discriminator else None
        self._keeps = self._measure is not None and config.game.checkpoint_selection == "best"
        self._updates = updates

    def before_game(self, record: TrainingState) -> bool:
        """Checks the pre-trained encoder with its mask off; returns whether that was still due."""
        if self._measure is None or record.before_game or record.epoch or record.step:
            return False
        on = is_masked(self._bundle.encoder)
        switch_mask(self._bundle.encoder, on=False)
        try:
            record.before_game = _floats(self._measure())
        finally:
            switch_mask(self._bundle.encoder, on=on)
        return True

    def figures(self, finished: int, *, last: bool) -> dict[str, float]:
        """What a check after so many joint epochs finds; nothing where none is due."""
        if self._measure is None or not schedule.check_due(self._every, finished, last=last):
            return {}
        return _floats(self._measure())

    def keep(self, record: TrainingState, *, last: bool) -> None:
        """Keeps the networks of the epoch just finished where they are the best checked ones."""
        if not self._keeps or not schedule.check_due(self._every, record.epoch, last=last):
            return
        score = list(schedule.shortfall(record.stop_rule))
        if record.kept and record.kept["score"] < score:
            return
        save_bundle(self._bundle, self._at(record.epoch))
        record.kept = {
            "epoch": record.epoch,
            "score": score,
            "stop_rule": record.stop_rule,
            "updates": self._updates(),
        }

    def tidy(self, record: TrainingState) -> None:
        """Deletes networks that a saved record no longer names."""
        if record.kept:
            for path in self._folder.glob("epoch-*"):
                if path != self._at(record.kept["epoch"]):
                    shutil.rmtree(path, ignore_errors=True)

    def restore(self, record: TrainingState) -> None:
        """Puts the kept networks back, and what the stop rule said of them.

        Raises:
            RunError: their files are missing or damaged.
        """
        if record.kept:
            load_bundle_weights(self._bundle, self._at(record.kept["epoch"]))
            record.stop_rule = record.kept["stop_rule"]

    def updates_in_weights(self, record: TrainingState) -> dict[str, int]:
        """Private updates, by name, that the weights of a finished run have."""
        found: dict[str, int] = record.kept["updates"] if record.kept else self._updates()
        return found

    def _at(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch}"


def _floats(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in figures.items()}
