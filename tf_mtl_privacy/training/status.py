"""How a run went, as `training.json` keeps it and results.json repeats it."""

from __future__ import annotations

from typing import Any

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.models.bundle import Bundle, parameter_counts
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.dp_status import dp_status
from tf_mtl_privacy.training.record import RunRecord


def training_status(
    config: Config,
    record: RunRecord,
    bundle: Bundle,
    dp: dict[str, Any],
    tasks: tuple[str, ...],
) -> dict[str, Any]:
    """Gates, stop rule, epochs, steps and seconds of a run; `dp` as `dp_status` gives it."""
    phases = {
        name: {
            "epochs": record.epochs.get(name, 0),
            "most_epochs": most,
            "steps": record.steps.get(name, 0),
            "seconds": round(record.seconds.get(name, 0.0), 1),
        }
        for name, most in schedule.phase_epochs(config).items()
    }
    return {
        "gates": _gates(config, record, tasks),
        "stop_rule": record.stop_rule or schedule.stop_rule(config, [], tasks),
        "training": {
            "model": config.train.model,
            "phases": phases,
            "steps": record.total_steps,
            "seconds": round(sum(record.seconds.values()), 1),
            "final_beta": record.beta,
            "before_game": record.before_game,
            "final_check": _final_check(record),
            "kept_epoch": record.kept.get("epoch"),
            "in_loop": _in_loop(record),
            "parameters": parameter_counts(bundle),
            "perceptual_loss": config.effective_perceptual_weights,
        },
        "dp": dp,
    }


def _final_check(record: RunRecord) -> dict[str, float]:
    """Returns what the check read of the released weights, and the joint epoch that they are of.

    These are the weights of the epoch that was kept, or else of the last one, after which a check
    is always made. Empty where no check was made.
    """
    epoch = record.kept.get("epoch") or len(record.history)
    figures = record.history[epoch - 1] if record.history else {}
    found = {name: value for name, value in figures.items() if name.startswith("fresh_probe_")}
    return {"epoch": epoch, **found} if found else {}


def _in_loop(record: RunRecord) -> dict[str, Any]:
    """The most that the discriminator read of validation rows after a joint epoch, of how many."""
    found = [epoch.get("privacy_balanced_accuracy") for epoch in record.history]
    known = [value for value in found if value is not None]
    return {"most_balanced_accuracy": max(known, default=None), "epochs": len(known)}


def _gates(config: Config, record: RunRecord, tasks: tuple[str, ...]) -> dict[str, Any]:
    """The gates of all pre-training phases; one whose phase did not run is "not_evaluated"."""
    gates = {}
    for phase, most in schedule.phase_epochs(config).items():
        missing = schedule.gate(config, phase, {}, tasks)
        if missing is not None:
            gates[phase] = record.gates.get(phase, missing | {"epochs": 0, "bound": most})
    return gates


def merged_status(config: Config, status: dict[str, Any]) -> dict[str, Any]:
    """One status for the networks of a single-task run."""
    return {
        "gates": {
            f"{task}/{n}": g for task, part in status.items() for n, g in part["gates"].items()
        },
        "stop_rule": {
            "met": all(part["stop_rule"]["met"] for part in status.values()),
            "parts": {
                f"{task}/{name}": value
                for task, part in status.items()
                for name, value in part["stop_rule"]["parts"].items()
            },
        },
        "training": {
            "model": config.train.model,
            "tasks": {task: part["training"] for task, part in status.items()},
            "steps": sum(part["training"]["steps"] for part in status.values()),
            "seconds": round(sum(part["training"]["seconds"] for part in status.values()), 1),
        },
        "dp": dp_status(config, None, None, {}, {}),
    }
