"""Schedule of training: phases, gates, beta and the stop rule. Pure functions.

Source: paper, section 3.2, steps 2, 3.4 and 4.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from tf_mtl_privacy.config import Config, LossConfig
from tf_mtl_privacy.config.options import parse_thresholds
from tf_mtl_privacy.removal import methods

# Suffix of the parts of the stop rule that compare several epochs.
_CHANGE = "_change"


def phase_epochs(config: Config) -> dict[str, int]:
    """Returns phase name -> its maximum number of epochs, in the order in which phases run."""
    train = config.train
    removal: dict[str, int] = {}
    for method in methods(config):
        removal |= method.phases(config.removal)
    epochs = {"business": train.business_epochs}
    # A frozen backbone's features are cached from the first phase on, so removal comes first.
    epochs = removal | epochs if config.privacy.dp_scope == "all" else epochs | removal
    if train.has_discriminator:
        epochs["discriminator"] = train.discriminator_epochs
        epochs["restorer"] = train.restorer_epochs
    epochs["adversarial"] = train.adversarial_epochs
    return epochs


def initial_beta(config: Config) -> float:
    """Returns beta of the first joint epoch; 0 for a model without the adversarial game."""
    if not config.train.is_adversarial:
        return 0.0
    loss = config.loss
    switched = switch_epoch(loss, config.train.adversarial_epochs) == 0
    return max(loss.beta, loss.beta_late) if switched else loss.beta


def next_beta(
    loss: LossConfig, beta: float, finished: int, epochs: int, privacy_accuracy: float | None
) -> float:
    """Computes beta of the next joint epoch (paper, step 3.4).

    Args:
        loss: the schedule's figures.
        beta: the current value, in [0, beta_max].
        finished: number of finished joint epochs, >= 1.
        epochs: number of joint epochs in all.
        privacy_accuracy: balanced accuracy of the discriminator on validation rows after this
            epoch, in [0, 1], or None if it could not be measured.

    Returns:
        `beta`, raised to `beta_late` once the share `beta_switch` of the epochs is finished, and by
        `beta_step` if a check that is due found `privacy_accuracy >= beta_check_accuracy`. 0 if
        both `beta` and `beta_late` of the schedule are 0, because there is no game then.
    """
    if not loss.plays:
        return 0.0
    if finished == switch_epoch(loss, epochs):
        beta = max(beta, loss.beta_late)
    check_due = finished % loss.beta_check_epochs == 0
    if check_due and privacy_accuracy is not None and privacy_accuracy >= loss.beta_check_accuracy:
        beta = beta + loss.beta_step
    return min(beta, loss.beta_max)


def warmed_beta(beta: float, finished: float, warmup_epochs: float) -> float:
    """Computes beta of one step during the warm-up, in which it grows from 0.

    Args:
        beta: its value after the warm-up, from `next_beta`.
        finished: number of finished joint epochs, including the current one's share, >= 0.
        warmup_epochs: number of epochs over which it grows linearly; 0 for no warm-up.

    Returns:
        `beta * min(1, finished / warmup_epochs)`.
    """
    return beta if finished >= warmup_epochs else beta * finished / warmup_epochs


def switch_epoch(loss: LossConfig, epochs: int) -> int:
    """Returns the number of finished epochs at which beta becomes `beta_late`."""
    return round(loss.beta_switch * epochs)


def gate(
    config: Config, phase: str, metrics: Mapping[str, float], tasks: Collection[str]
) -> dict[str, Any] | None:
    """Evaluates the gate of a pre-training phase: its thresholds and figures (paper, step 2).

    Args:
        phase: name of a phase.
        tasks: the network's tasks; goals for other tasks are ignored.
        metrics: validation metrics of the last epoch: `<task>_accuracy`,
            `privacy_balanced_accuracy`, `psnr_db`.

    Returns:
        None if the phase has no gate, else `{"threshold", "value", "status"}` with status "met",
        "not_met" or, if a metric is missing, "not_evaluated". A gate whose thresholds are all 0 is
        "off" without `early_gates`: it neither requires nor ends anything.
    """
    wanted = _gate_thresholds(config, phase, tasks)
    if not wanted:
        return None
    values = {name: metrics.get(name) for name in wanted}
    if not any(wanted.values()) and not config.train.early_gates:
        status = "off"
    elif any(value is None for value in values.values()):
        status = "not_evaluated"
    else:
        status = "met" if all((values[n] or 0.0) >= wanted[n] for n in wanted) else "not_met"
    return {"threshold": wanted, "value": values, "status": status}


def _gate_thresholds(config: Config, phase: str, tasks: Collection[str]) -> dict[str, float]:
    train = config.train
    if phase == "business":
        goals = parse_thresholds("gate_business", train.gate_business)
        return {f"{task}_accuracy": goal for task, goal in goals.items() if task in tasks}
    if phase == "discriminator":
        return {"privacy_balanced_accuracy": train.gate_discriminator}
    if phase == "restorer":
        return {"psnr_db": train.gate_psnr}
    return {}


def stop_rule(
    config: Config, history: Sequence[Mapping[str, float]], tasks: Collection[str]
) -> dict[str, Any]:
    """Evaluates the stop rule of the joint phase, part by part (paper, step 4).

    Args:
        history: validation metrics of each finished joint epoch, oldest first. The privacy bound
            reads `fresh_probe_upper`, the upper end of the interval around a fresh attacker's
            accuracy, never the in-loop discriminator; the membership bound reads
            `membership_success_rate`.
        tasks: the network's tasks; goals for other tasks are ignored.

    Returns:
        `{"met": bool, "parts": {name: {"status", "value", "bound"}}}`; a part whose figure is
        missing is "not_evaluated", and then the rule is not met. A rule without parts is not met.
    """
    train = config.train
    last = history[-1] if history else {}
    parts: dict[str, dict[str, Any]] = {}
    goals = parse_thresholds("stop_business", train.stop_business)
    for task, goal in goals.items():
        if task not in tasks:
            continue
        value = last.get(f"{task}_accuracy")
        parts[f"{task}_accuracy"] = _part(value, goal, at_least=True)
        spread = _spread([epoch.get(f"{task}_accuracy") for epoch in history], train.stop_epochs)
        parts[f"{task}{_CHANGE}"] = _part(spread, train.stop_change, at_least=False, strict=True)
    if train.has_discriminator:
        probe = last.get("fresh_probe_upper")
        parts["privacy"] = _part(probe, train.stop_privacy, at_least=False)
        parts["membership"] = _part(
            last.get("membership_success_rate"), train.stop_membership, at_least=False
        )
        parts["psnr_db"] = _part(last.get("psnr_db"), train.stop_psnr, at_least=True)
    met = bool(parts) and all(part["status"] == "met" for part in parts.values())
    return {"met": met, "parts": parts}


def shortfall(rule: Mapping[str, Any]) -> tuple[int, float, float]:
    """Measures how far an epoch's networks are from the stop rule; smaller is closer.

    It reads the evaluated parts but leaves out changes over epochs, which are no property of one
    epoch's networks.

    Args:
        rule: a result of `stop_rule`.

    Returns:
        The number of parts that are not met; the sum of their distances from their bounds, each as
        a share of the bound (or the distance itself if the bound is 0); and the upper end of a
        fresh attacker's accuracy, 1 without one.
    """
    parts = rule["parts"]
    missed = [
        abs(part["value"] - part["bound"]) / (part["bound"] or 1.0)
        for name, part in parts.items()
        if part["status"] == "not_met" and not name.endswith(_CHANGE)
    ]
    value = parts.get("privacy", {}).get("value")
    return len(missed), sum(missed), 1.0 if value is None else float(value)


def check_due(check_epochs: int, finished: int, *, last: bool) -> bool:
    """Returns True if a fresh attacker is trained after joint epoch `finished`, from 1.

    This is the case after the `last` epoch, and every `check_epochs` epochs if that is not 0.
    """
    return last or (check_epochs > 0 and finished % check_epochs == 0)


def _part(
    value: float | None, bound: float, *, at_least: bool, strict: bool = False
) -> dict[str, Any]:
    if value is None:
        return {"status": "not_evaluated", "value": None, "bound": bound}
    met = value >= bound if at_least else (value < bound if strict else value <= bound)
    return {"status": "met" if met else "not_met", "value": value, "bound": bound}


def _spread(values: Sequence[float | None], epochs: int) -> float | None:
    """Returns maximum minus minimum over the last `epochs` changes; None if there are fewer."""
    recent = values[-(epochs + 1) :]
    known = [value for value in recent if value is not None]
    if len(known) < epochs + 1:
        return None
    return max(known) - min(known)
