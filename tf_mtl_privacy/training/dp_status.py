"""Builds a finished run's status for results.json: its `dp` section, gates, stop rule, figures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.models.bundle import parameter_counts
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon, why_infinite
from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.accounting.statements import library_epsilon, library_statement
from tf_mtl_privacy.privacy.ledger import LedgerState, counted_phases, ledger_report
from tf_mtl_privacy.removal import PUBLIC, TRAIN, methods
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.checkpoints import TrainingState
from tf_mtl_privacy.training.context import RunContext
from tf_mtl_privacy.training.private_updates import Budget, PrivatePlan

PARTS = ("encoder", "business", "restorer", "discriminator")
_NO_EPSILON: dict[str, Any] = {
    "delta": None,
    "epsilon_pld": None,
    "epsilon_rdp": None,
    "sampling": None,
    "unit": None,
    "steps": 0,
    "void": False,
    "phases": {},
}


def dp_status(
    config: Config,
    plan: PrivatePlan | None,
    ledger: LedgerState | None,
    in_weights: Mapping[str, int],
    budget_ended: Mapping[str, int],
    ended_early: Collection[str] = (),
    public: str = "",
    data: str = "",
) -> dict[str, Any]:
    """Builds the `dp` section of results.json.

    Args:
        config: the run's configuration.
        plan: its private updates, None if there are none.
        ledger: the counted updates.
        in_weights: update name -> updates that the weights have; at most the counted ones.
        budget_ended: phase -> steps not taken because a budget was exhausted.
        ended_early: phases that a gate or the stop rule ended.
        public: with `--dp_scope=all`, why the frozen backbone reveals nothing about training rows.
        data: name of the data set that was trained on; by default the configuration's.
    """
    if plan is None or ledger is None:
        return {
            "scope": None,
            **_NO_EPSILON,
            "reason": "trained without differential privacy",
            "conditional": {"discriminator": None},
            "released": dict.fromkeys(PARTS),
            **_reads(config, data),
        }
    planned = {name: update.planned for name, update in plan.updates.items()}
    early = [name for name, update in plan.updates.items() if update.phase in ended_early]
    report = ledger_report(ledger, plan.delta, planned, early)
    _keep_to_target(report, plan)
    for name, phase in ledger.phases().items():
        report["phases"][name] |= {
            "steps_planned": plan.updates[name].planned,
            "steps_in_weights": in_weights[name],
            **_library(phase, plan.delta, report["max_images_per_person"]),
        }
    whole = report["epsilon_pld"]
    everything = config.privacy.dp_scope == "all"
    return {
        "scope": config.privacy.dp_scope,
        **report,
        "reason": _reason(config, report, ledger),
        "public_backbone": public or None,
        "budgets": [
            {
                "updates": list(budget.updates),
                "target_epsilon": budget.target_epsilon,
                "missed": budget.missed or None,
                "exceeded": _exceeded(budget, plan, ledger, report, early),
            }
            for budget in plan.budgets
        ],
        "budget_ended": dict(budget_ended),
        "conditional": {"discriminator": None if everything else whole},
        "released": dict.fromkeys(PARTS, whole if everything else None),
        **_reads(config, data),
    }


def _keep_to_target(report: dict[str, Any], plan: PrivatePlan) -> None:
    """States the whole run's target if the plan and the updates lost in kills sum up to more.

    Training stops at the target, so that fewer updates run. If all are of one mechanism, the target
    fixes their total number before the run, and some of them reveal no more than all. If mechanisms
    differ, the number of each that fits depends on where a phase ended, and so on the data.
    Stopping at a composed epsilon is then a privacy filter, which is not proven for PLD, and the
    larger figure is stated.
    """
    whole_run = [b.target_epsilon for b in plan.budgets if len(b.updates) == len(plan.updates)]
    planned, ran = report["epsilon_pld"], report["as_run"]["epsilon_pld"]
    alike = len({_kind(update.mechanism) for update in plan.updates.values()}) == 1
    if whole_run and alike and planned is not None and ran is not None:
        # Never less than what has been counted, whatever the target is.
        report["epsilon_pld"] = min(planned, max(ran, whole_run[0]))


def _exceeded(
    budget: Budget,
    plan: PrivatePlan,
    ledger: LedgerState,
    report: Mapping[str, Any],
    early: Collection[str],
) -> str | None:
    """Returns why the stated epsilon is above a target, or None if it is not.

    It can be above only after a phase that ended early, so that the whole plan counts, together
    with a kill, whose lost updates count in addition.
    """
    allowance = ledger.kill_allowance
    if report["void"] or not early or not allowance:
        return None
    if len(budget.updates) == len(plan.updates):
        stated = report["epsilon_pld"]
    else:
        planned = {name: update.planned for name, update in plan.updates.items()}
        phases = counted_phases(ledger, planned, early)
        stated = epsilon([phases[name] for name in budget.updates], plan.delta)
    if stated is not None and stated <= budget.target_epsilon:
        return None
    return (
        "a gate or the stop rule ended a phase early, so that the whole plan counts, and processes "
        f"were killed, so that up to {allowance:,} more updates of each kind count in addition; "
        "docs/accounting.md#phases-that-end-early"
    )


def _kind(mechanism: SampledGaussian) -> tuple[Any, ...]:
    """Returns the parameters on which the accounting of one update depends."""
    if mechanism.sampling != POISSON:
        return mechanism.sampling, mechanism.noise_multiplier
    overflow = mechanism.overflow_probability
    return POISSON, mechanism.noise_multiplier, mechanism.sampling_probability, overflow


def _library(phase: MechanismRun, delta: float, images_per_person: int) -> dict[str, Any]:
    """Returns tensorflow-privacy's own figure and statement, if it has any for this phase."""
    if not phase.steps or not phase.mechanism.noise_multiplier:
        return {"library_epsilon": None, "statement": None}
    return {
        "library_epsilon": library_epsilon(phase, delta),
        "statement": library_statement(phase, delta, images_per_person),
    }


def _reason(config: Config, report: Mapping[str, Any], ledger: LedgerState) -> str | None:
    """Returns why no released weight has an epsilon, or None if they have one."""
    if report["void"]:
        return f"void: {report['void_reason']}"
    if report["epsilon_pld"] is None:
        reason = why_infinite(list(ledger.phases().values()), report["delta"])
        return f"no finite epsilon holds at this delta: {reason}"
    if config.privacy.dp_scope == "all":
        return None
    return (
        "the encoder is trained on the same rows without noise, and the discriminator sees them "
        "through it"
    )


def _reads(config: Config, data: str) -> dict[str, list[str]]:
    """Lists the readers of private labels that no epsilon covers, by the rows that they read."""
    return {
        "unaccounted_label_access": _of_training_rows(config, data),
        "validation_label_access": _of_validation_rows(config),
        "public_label_access": _by_removal(config, PUBLIC),
    }


def _of_training_rows(config: Config, data: str) -> list[str]:
    train = config.train
    reads: list[str] = []
    everything = train.is_private and config.privacy.dp_scope == "all"
    labels = config.game.discriminator_labels == "private"
    plays = train.is_adversarial and config.loss.plays and not everything
    if plays and labels and config.loss.objective_reads_labels:
        reads.append(
            f"the encoder's objective '{config.loss.objective}' reads the label of every training "
            "row"
        )
    if train.has_discriminator and labels and not train.is_private:
        reads.append("the discriminator is trained without noise")
    reads += _by_removal(config, TRAIN)
    drawn = config.data.dataset == "synthetic_faces" and data in ("", "synthetic_faces")
    if _chooses_by_attacker(config) and not drawn:
        # With synthetic faces the attacker learns from other faces, which show no real person.
        reads.append("the fresh attacker of the checks learns the labels of training rows")
    if config.data.effective_private_label == "identity":
        reads.append("the people and pictures of the data set were chosen by identity")
    return reads


def _chooses_by_attacker(config: Config) -> bool:
    """Returns True if a fresh attacker may decide which networks are released."""
    return config.train.has_discriminator and (
        config.game.check_epochs > 0 or config.game.checkpoint_selection == "best"
    )


def _of_validation_rows(config: Config) -> list[str]:
    if not config.train.has_discriminator:
        return []
    reads = ["gates and the schedule of beta read the labels of validation rows"]
    if config.game.checkpoint_selection == "best":
        reads.append("the released epoch was chosen by a fresh attacker on these rows")
    elif config.game.check_epochs:
        reads.append("the stop rule reads a fresh attacker's result on these rows")
    return reads


def _by_removal(config: Config, source: str) -> list[str]:
    """Returns the statements of the removal methods that are fitted to `source`."""
    return [
        method.label_access(config.removal)
        for method in methods(config)
        if method.fitted_to(config.removal) == source
    ]


def training_status(run: RunContext, dp: dict[str, Any]) -> dict[str, Any]:
    """Builds gates, stop rule, epochs, steps and seconds of a run; `dp` is from `dp_status`."""
    config, state, tasks = run.config, run.state, run.tasks
    phases = {
        name: {
            "epochs": state.epochs.get(name, 0),
            "most_epochs": max_epochs,
            "steps": state.steps.get(name, 0),
            "seconds": round(state.seconds.get(name, 0.0), 1),
        }
        for name, max_epochs in schedule.phase_epochs(config).items()
    }
    return {
        "gates": _gates(config, state, tasks),
        "stop_rule": state.stop_rule or schedule.stop_rule(config, [], tasks),
        "training": {
            "model": config.train.model,
            "phases": phases,
            "steps": state.total_steps,
            "seconds": round(sum(state.seconds.values()), 1),
            "final_beta": state.beta,
            "before_game": state.before_game,
            "final_check": _final_check(state),
            "kept_epoch": state.kept.get("epoch"),
            "in_loop": _in_loop(state),
            "parameters": parameter_counts(run.bundle),
            "perceptual_loss": config.effective_perceptual_weights,
        },
        "dp": dp,
    }


def _final_check(state: TrainingState) -> dict[str, float]:
    """Returns the figures of the check of the released weights, and their joint epoch.

    These are the weights of the kept epoch, or else of the last one, after which a check is always
    made. Empty if no check was made.
    """
    epoch = state.kept.get("epoch") or len(state.history)
    figures = state.history[epoch - 1] if state.history else {}
    check = {name: value for name, value in figures.items() if name.startswith("fresh_probe_")}
    return {"epoch": epoch, **check} if check else {}


def _in_loop(state: TrainingState) -> dict[str, Any]:
    """Returns the discriminator's maximum accuracy on validation rows over the joint epochs."""
    values = [epoch.get("privacy_balanced_accuracy") for epoch in state.history]
    known = [value for value in values if value is not None]
    return {"most_balanced_accuracy": max(known, default=None), "epochs": len(known)}


def _gates(config: Config, state: TrainingState, tasks: tuple[str, ...]) -> dict[str, Any]:
    """Returns the gates of all pre-training phases; "not_evaluated" if the phase did not run."""
    gates = {}
    for phase, max_epochs in schedule.phase_epochs(config).items():
        missing = schedule.gate(config, phase, {}, tasks)
        if missing is not None:
            gates[phase] = state.gates.get(phase, missing | {"epochs": 0, "bound": max_epochs})
    return gates


def merged_status(config: Config, status: dict[str, Any]) -> dict[str, Any]:
    """Merges the status of all tasks of a single-task run."""
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
