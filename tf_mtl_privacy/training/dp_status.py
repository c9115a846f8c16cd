"""What a run may say about differential privacy, in the words of the result file."""

from __future__ import annotations

from typing import Any

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.privacy.calibration import noise_for_epsilon
from tf_mtl_privacy.training.schedule import phase_epochs

_PRIVATE_PHASES = ("discriminator", "adversarial")


def noise_multipliers(config: Config, labelled_rows: int, rows: int) -> dict[str, float]:
    """Phase name -> noise multiplier of the discriminator's updates.

    Without targets it is the configured one. With targets it is calibrated for the most epochs the
    phase may take, as if batches were Poisson samples.

    Args:
        config: the run's configuration.
        labelled_rows: training rows whose private label is known, >= 1.
        rows: all training rows.
    """
    privacy = config.privacy
    if not config.train.is_private:
        return {}
    targets = {
        "discriminator": (privacy.target_epsilon_pretrain, labelled_rows),
        "adversarial": (privacy.target_epsilon_adversarial, rows),
    }
    noise = {}
    for phase, (target, size) in targets.items():
        epochs = phase_epochs(config)[phase]
        if target == 0 or epochs == 0:
            noise[phase] = privacy.noise_multiplier
            continue
        probability = min(1.0, config.train.batch_size / size)
        steps = epochs * -(-size // config.train.batch_size)
        noise[phase] = noise_for_epsilon(target, privacy.delta, probability, steps)
    return noise


def dp_status(
    config: Config, noise: dict[str, float], private_steps: dict[str, int]
) -> dict[str, Any]:
    """The `dp` part of results.json: no epsilon, and why.

    Batches are shuffled epochs, for which no accountant here gives a true figure, and the encoder
    is trained on the same rows without noise.
    """
    private = config.train.is_private
    reads = []
    if config.train.is_adversarial and config.loss.objective == "paper":
        reads.append("the encoder's objective 'paper' reads the label of every training row")
    if config.train.has_discriminator and not private:
        reads.append("the discriminator is trained without noise")
    if config.train.has_discriminator:
        reads.append("gates and the schedule of beta read the labels of validation rows")
    reason = (
        "updates are clipped and noised, but their batches are shuffled epochs rather than the "
        "Poisson samples that the accounting would need"
        if private
        else "trained without differential privacy"
    )
    void = private and any(value == 0 for value in noise.values())
    if void:
        reason = "updates were taken without noise, which gives no privacy at all"
    return {
        "scope": "discriminator" if private else None,
        "delta": config.privacy.delta if private else None,
        "epsilon_pld": None,
        "epsilon_rdp": None,
        "reason": reason,
        "sampling": "shuffled_epochs" if private else None,
        "unit": "example" if private else None,
        "steps": sum(private_steps.get(phase, 0) for phase in _PRIVATE_PHASES),
        "steps_by_phase": private_steps,
        "noise_multiplier": noise,
        "l2_norm_clip": config.privacy.l2_norm_clip if private else None,
        "void": void,
        "conditional": {"discriminator": None},
        "released": {
            "encoder": None,
            "business": None,
            "restorer": None,
            "discriminator": None,
        },
        "unaccounted_label_access": reads,
    }
