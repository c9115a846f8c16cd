"""Options of training: model and phases, losses, and the adversarial game (paper, section 3.2)."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option, parse_thresholds
from tf_mtl_privacy.errors import UsageError

# Encoder objectives that read private labels; results.json lists this access.
_READ_LABELS = ("paper", "paper_bounded")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Model, length of each phase, and the stop rule (paper, section 3.2)."""

    model: str = option(
        "mtl_adv_dp",
        "The model to train: one network per task ('stl'), or a multi-task model with the "
        "adversarial game ('mtl_adv'), with DP-SGD for the discriminator ('mtl_dp'), or with both "
        "('mtl_adv_dp').",
        choices=("stl", "mtl_adv", "mtl_dp", "mtl_adv_dp"),
    )
    seed: int = option(
        0, "Seed of initial weights and of the order of rows.", low=0, high=2**31 - 1
    )
    batch_size: int = option(128, "Rows per step.", low=1)
    business_epochs: int = option(
        10, "Maximum epochs of pre-training the encoder and the task heads.", low=0
    )
    discriminator_epochs: int = option(
        10, "Maximum epochs of pre-training the discriminator.", low=0
    )
    restorer_epochs: int = option(10, "Maximum epochs of pre-training the restorer.", low=0)
    adversarial_epochs: int = option(20, "Maximum epochs of the joint phase.", low=0)
    learning_rate: float = option(1e-3, "Learning rate (Adam) of encoder and task heads.", above=0)
    discriminator_learning_rate: float = option(
        1e-3, "Learning rate (Adam) of the discriminator.", above=0
    )
    restorer_learning_rate: float = option(1e-3, "Learning rate (Adam) of the restorer.", above=0)
    adversarial_learning_rate: float = option(
        5e-4, "Learning rate (Adam) of encoder, heads and restorer in the joint phase.", above=0
    )
    adversarial_schedule: str = option(
        "cosine",
        "Schedule of --adversarial_learning_rate over the joint phase: constant, or decaying to 0 "
        "along half a cosine.",
        choices=("constant", "cosine"),
    )
    early_gates: bool = option(
        True, "End a pre-training phase at the first epoch in which its gate is met."
    )
    gate_business: str = option(
        "gender=0.90", "Gate of the task heads: task=accuracy on validation rows."
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
        "gender=0.95,age=0.80", "Stop rule: accuracies to reach, task=accuracy[,task=accuracy]."
    )
    stop_change: float = option(
        0.01, "Stop rule: maximum change of those accuracies over stop_epochs.", above=0, high=1
    )
    stop_epochs: int = option(5, "Stop rule: epochs over which accuracies must be stable.", low=1)
    stop_privacy: float = option(
        0.15,
        "Stop rule: maximum balanced accuracy of a fresh attacker on the private label (upper 95 % "
        "confidence bound).",
        low=0,
        high=1,
    )
    stop_membership: float = option(
        0.10,
        "Stop rule: maximum success rate of membership inference (TPR at 5 % FPR).",
        low=0,
        high=1,
    )
    stop_psnr: float = option(32.0, "Stop rule: minimum PSNR in dB.", low=0)
    checkpoint_steps: int = option(200, "Steps between checkpoints within an epoch.", low=1)

    def __post_init__(self) -> None:
        check_options(self)
        parse_thresholds("gate_business", self.gate_business)
        parse_thresholds("stop_business", self.stop_business)

    @property
    def has_discriminator(self) -> bool:
        """True if the model has a discriminator and a restorer."""
        return self.model != "stl"

    @property
    def is_adversarial(self) -> bool:
        """True if the encoder is trained against the discriminator."""
        return self.model in ("mtl_adv", "mtl_adv_dp")

    @property
    def is_private(self) -> bool:
        """True if the discriminator is trained with DP-SGD."""
        return self.model in ("mtl_dp", "mtl_adv_dp")


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the losses (paper, section 3.2) and the schedule of beta (step 3.4)."""

    alpha: float = option(0.4, "Weight of the task loss.", low=0)
    gamma: float = option(0.3, "Weight of the restoration loss.", low=0)
    beta: float = option(0.1, "Weight of the adversarial loss at the start.", low=0)
    beta_late: float = option(0.3, "Weight of the adversarial loss after beta_switch.", low=0)
    beta_switch: float = option(
        0.5, "Share of the adversarial epochs after which beta_late applies.", low=0, high=1
    )
    beta_step: float = option(0.1, "Increase of beta after a failed privacy check.", low=0)
    beta_max: float = option(0.5, "Maximum of beta.", low=0)
    beta_check_epochs: int = option(10, "Adversarial epochs between privacy checks.", low=1)
    beta_check_accuracy: float = option(
        0.6,
        "Accuracy on the private label at or above which a privacy check fails.",
        low=0,
        high=1,
    )
    objective: str = option(
        "confusion",
        "The encoder's adversarial objective: 'paper' maximises the discriminator's loss, "
        "'paper_bounded' does so up to the loss of a uniform output, 'confusion' pulls that output "
        "to uniform, 'entropy' maximises its entropy. Only the first two read the private label.",
        choices=(*_READ_LABELS, "confusion", "entropy"),
    )
    reconstruction_weight: float = option(
        1.0, "Weight of the squared error in the restoration loss.", low=0
    )
    perceptual_weight: float = option(
        1.0, "Weight of the perceptual loss in the restoration loss.", low=0
    )
    perceptual_weights: str = option(
        "none",
        "VGG16 weights of the perceptual loss: 'none' (off), 'imagenet', 'hed', a file, or 'auto': "
        "'imagenet' if the encoder starts from ImageNet weights, else 'none'.",
    )

    def __post_init__(self) -> None:
        check_options(self)
        if max(self.beta, self.beta_late) > self.beta_max:
            raise UsageError(
                f"--beta_max={self.beta_max}: expected at least beta={self.beta} and "
                f"beta_late={self.beta_late}"
            )

    @property
    def plays(self) -> bool:
        """True if beta is ever above 0; a beta that starts and stays at 0 is never raised."""
        return max(self.beta, self.beta_late) > 0

    @property
    def objective_reads_labels(self) -> bool:
        """True if the encoder's objective reads the private labels of its rows."""
        return self.objective in _READ_LABELS


@dataclasses.dataclass(frozen=True)
class GameConfig:
    """The adversarial game: discriminators, checks and the choice of a checkpoint (step 3)."""

    discriminator_steps: int = option(
        1,
        "Discriminator updates per encoder update in the joint phase; each update after the first "
        "draws its own batch.",
        low=1,
    )
    discriminators: int = option(
        1,
        "Number of discriminators that the encoder is trained against at once; each draws its own "
        "batches.",
        low=1,
        high=16,
    )
    discriminator_restart_epochs: int = option(
        0,
        "Joint epochs between restarts: one discriminator, in turn, starts from new weights; 0 "
        "means never.",
        low=0,
    )
    discriminator_labels: str = option(
        "private",
        "Labels that discriminators learn: the private label, or, as an ablation of the game, "
        "random labels ('shuffled').",
        choices=("private", "shuffled"),
    )
    beta_warmup_epochs: float = option(
        0.0, "Joint epochs over which beta grows from 0 to its first value.", low=0
    )
    check_epochs: int = option(
        0,
        "Joint epochs between checks by a fresh attacker on validation rows; 0 means only after "
        "the last one.",
        low=0,
    )
    checkpoint_selection: str = option(
        "last",
        "Networks of the joint phase to keep: the last ones, or those of the checked epoch that is "
        "closest to the stop rule on validation rows ('best'). Closest is the epoch with the "
        "fewest unmet parts, then the smallest miss relative to each bound; changes over epochs "
        "do not count.",
        choices=("last", "best"),
    )

    def __post_init__(self) -> None:
        check_options(self)
