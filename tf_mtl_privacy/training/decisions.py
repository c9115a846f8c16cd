"""What the figures of a finished epoch decide: gates, the next beta, the stop rule."""

from __future__ import annotations

from collections.abc import Mapping

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.phase import Phase
from tf_mtl_privacy.training.record import RunRecord


def decide(
    config: Config,
    record: RunRecord,
    phase: Phase,
    tasks: tuple[str, ...],
    figures: Mapping[str, float],
    *,
    last: bool,
) -> bool:
    """Books what a finished epoch decides; returns whether the phase is over early.

    Args:
        config: the run's configuration.
        record: where the run stands, with this epoch counted; changed in place.
        phase: the one that the epoch was of.
        tasks: names of the business tasks.
        figures: of validation rows, by name.
        last: whether no epoch of the phase follows anyhow.
    """
    if phase.name != "adversarial":
        gate = schedule.gate(config, phase.name, figures, tasks)
        if gate is None:
            return False
        record.gates[phase.name] = gate | {"epochs": record.epoch, "bound": phase.epochs}
        return config.train.early_gates and gate["status"] == "met"
    record.history.append(dict(figures))
    record.stop_rule = schedule.stop_rule(config, record.history, tasks)
    finished = last or bool(record.stop_rule["met"])
    if config.train.is_adversarial and not finished:
        record.beta = schedule.next_beta(
            config.loss,
            record.beta,
            record.epoch,
            phase.epochs,
            figures.get("privacy_balanced_accuracy"),
        )
    return finished
