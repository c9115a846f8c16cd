"""Options of differentially private training."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError


@dataclasses.dataclass(frozen=True)
class PrivacyConfig:
    """Differentially private training: scope, noise and epsilon."""

    dp_scope: str = option(
        "discriminator",
        "Scope of DP-SGD: 'discriminator', as in the paper, which gives no released weight an "
        "epsilon; or 'all' trained weights, on a frozen public backbone.",
        choices=("discriminator", "all"),
    )
    l2_norm_clip: float = option(
        1.0, "Clipping norm: bound on the L2 norm of each example's gradient.", above=0
    )
    noise_multiplier: float = option(
        1.0,
        "Noise multiplier (standard deviation / --l2_norm_clip); ignored with a target epsilon.",
        low=0,
    )
    target_epsilon: float = option(
        0.0, "Calibrate the whole run's noise to this epsilon; 0 means off.", low=0
    )
    target_epsilon_pretrain: float = option(
        0.0, "Calibrate the pre-training's noise to this epsilon; 0 means off.", low=0
    )
    target_epsilon_adversarial: float = option(
        0.0, "Calibrate the joint phase's noise to this epsilon; 0 means off.", low=0
    )
    public_weights: bool = option(
        False,
        "With --dp_scope=all: confirm that the files of --encoder_weights and --perceptual_weights "
        "were trained on public data only.",
    )
    clipping: str = option(
        "ghost",
        "Implementation of per-example clipping; all give the same update and differ in time and "
        "memory.",
        choices=("ghost", "vectorized", "per_example"),
    )
    delta: float = option(
        1e-5,
        "The delta of (epsilon, delta)-DP; at most 1/(2 training rows).",
        above=0,
        high=1,
    )
    sampling: str = option(
        "poisson",
        "How the batches of private updates are drawn: 'poisson' gives privacy amplification by "
        "sampling; 'shuffled_epochs' is accounted for without amplification.",
        choices=("poisson", "shuffled_epochs"),
    )
    overflow_probability: float = option(
        0.0,
        "Probability that a Poisson batch exceeds its fixed capacity, which is added to delta; 0 "
        "chooses one so small that it changes no epsilon.",
        low=0,
        high=1e-6,
    )
    max_images_per_person: int = option(
        0, "Maximum training images of one person; 0 means no bound.", low=0
    )
    allow_zero_noise: bool = option(
        False, "Allow noise_multiplier=0, which gives no privacy; for tests only."
    )

    def __post_init__(self) -> None:
        check_options(self)
        targets = self.target_epsilon_pretrain, self.target_epsilon_adversarial
        if any(targets) and not all(targets):
            raise UsageError(
                "--target_epsilon_pretrain and --target_epsilon_adversarial: give both or neither"
            )
        if self.target_epsilon and any(targets):
            raise UsageError(
                f"--target_epsilon={self.target_epsilon:g} is for the whole run: give "
                "--target_epsilon=0 for targets by phase, or --target_epsilon_pretrain=0 and "
                "--target_epsilon_adversarial=0 for this one"
            )
        if (
            not (any(targets) or self.target_epsilon)
            and self.noise_multiplier == 0
            and not self.allow_zero_noise
        ):
            raise UsageError(
                "--noise_multiplier=0: expected > 0; zero noise needs --allow_zero_noise"
            )
