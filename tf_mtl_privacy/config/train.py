"""Which of the four models, for how long, and when to stop (paper, section 3.2)."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option, parse_thresholds


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Which of the four models, for how long, and when to stop (paper, section 3.2)."""

    model: str = option(
        "mtl_adv_dp",
        "The model to train: one network per task, or the multi-task model with the adversarial "
        "game, with DP-SGD for the discriminator, or with both.",
        choices=("stl", "mtl_adv", "mtl_dp", "mtl_adv_dp"),
    )
    seed: int = option(
        0, "Seed of initial weights and of the order of rows.", low=0, high=2**31 - 1
    )
    batch_size: int = option(128, "Rows per step.", low=1)
    business_epochs: int = option(10, "Most epochs of pre-training encoder and classifier.", low=0)
    discriminator_epochs: int = option(10, "Most epochs of pre-training the discriminator.", low=0)
    restorer_epochs: int = option(10, "Most epochs of pre-training the restorer.", low=0)
    adversarial_epochs: int = option(20, "Most epochs of the joint phase.", low=0)
    learning_rate: float = option(1e-3, "Adam's step size for encoder and classifier.", above=0)
    discriminator_learning_rate: float = option(
        1e-3, "Adam's step size for the discriminator.", above=0
    )
    restorer_learning_rate: float = option(1e-3, "Adam's step size for the restorer.", above=0)
    adversarial_learning_rate: float = option(
        5e-4, "Adam's step size for encoder, classifier and restorer in the joint phase.", above=0
    )
    adversarial_schedule: str = option(
        "cosine",
        "That step size over the joint phase: kept, or brought down to 0 along half a cosine.",
        choices=("constant", "cosine"),
    )
    early_gates: bool = option(
        True, "End a pre-training phase at the first epoch in which its gate is met."
    )
    gate_business: str = option(
        "gender=0.90", "Gate of the classifier: task=accuracy on validation rows."
    )
    gate_discriminator: float = option(
        0.8,
        "Gate of the discriminator: balanced accuracy on validation rows; 0 with "
        "--early_gates=false means none.",
        low=0,
        high=1,
    )
    gate_psnr: float = option(30.0, "Gate of the restorer: PSNR in dB on validation rows.", low=0)
    stop_business: str = option(
        "gender=0.95,age=0.80", "Stop rule: task=accuracy[,task=accuracy] to be reached."
    )
    stop_change: float = option(
        0.01, "Stop rule: largest change of those accuracies over stop_epochs.", above=0, high=1
    )
    stop_epochs: int = option(5, "Stop rule: epochs over which accuracies must be steady.", low=1)
    stop_privacy: float = option(
        0.15,
        "Stop rule: highest balanced accuracy of a fresh probe (the upper end of its interval).",
        low=0,
        high=1,
    )
    stop_membership: float = option(
        0.10,
        "Stop rule: highest success rate of membership inference, TPR at 5 % FPR.",
        low=0,
        high=1,
    )
    stop_psnr: float = option(32.0, "Stop rule: lowest PSNR in dB.", low=0)
    checkpoint_steps: int = option(200, "Steps between checkpoints within an epoch.", low=1)

    def __post_init__(self) -> None:
        check_options(self)
        parse_thresholds("gate_business", self.gate_business)
        parse_thresholds("stop_business", self.stop_business)

    @property
    def has_discriminator(self) -> bool:
        """Whether the model has a discriminator and a restorer at all."""
        return self.model != "stl"

    @property
    def is_adversarial(self) -> bool:
        """Whether the encoder plays against the discriminator."""
        return self.model in ("mtl_adv", "mtl_adv_dp")

    @property
    def is_private(self) -> bool:
        """Whether the discriminator is trained with DP-SGD."""
        return self.model in ("mtl_dp", "mtl_adv_dp")
