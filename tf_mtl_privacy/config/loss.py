"""Weights of the losses (paper, section 3.2) and the schedule of beta (step 3.4)."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError


@dataclasses.dataclass(frozen=True)
class LossConfig:
    """Weights of the losses (paper, section 3.2) and the schedule of beta (step 3.4)."""

    alpha: float = option(0.4, "Weight of the business loss.", low=0)
    gamma: float = option(0.3, "Weight of the restoration loss.", low=0)
    beta: float = option(0.1, "Weight of the adversarial loss at the start.", low=0)
    beta_late: float = option(0.3, "Weight of the adversarial loss from beta_switch on.", low=0)
    beta_switch: float = option(
        0.5, "Share of the adversarial epochs after which beta_late holds.", low=0, high=1
    )
    beta_step: float = option(0.1, "What a failed privacy check adds to beta.", low=0)
    beta_max: float = option(0.5, "Bound on beta.", low=0)
    beta_check_epochs: int = option(10, "Adversarial epochs between privacy checks.", low=1)
    beta_check_accuracy: float = option(
        0.6, "Privacy accuracy from which on a check fails.", low=0, high=1
    )
    objective: str = option(
        "confusion",
        "The encoder's adversarial objective: 'paper' maximises the discriminator's loss, "
        "'paper_bounded' does so up to the loss of a uniform output, 'confusion' pulls that output "
        "to uniform, 'entropy' maximises its entropy. Only the first two read the private label.",
        choices=("paper", "paper_bounded", "confusion", "entropy"),
    )
    reconstruction_weight: float = option(
        1.0, "Weight of the squared error inside the restoration loss.", low=0
    )
    perceptual_weight: float = option(
        1.0, "Weight of the perceptual loss inside the restoration loss.", low=0
    )
    perceptual_weights: str = option(
        "none",
        "VGG16 weights of the perceptual loss: 'none' (off), 'imagenet', 'hed', a file, or 'auto'; "
        "'auto' is 'imagenet' where the encoder starts from ImageNet weights, else 'none'.",
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
        """Whether beta is ever above 0: where it starts at 0 and stays there, nothing raises it."""
        return max(self.beta, self.beta_late) > 0

    @property
    def objective_reads_labels(self) -> bool:
        """Whether the encoder's objective reads private labels of its rows."""
        return self.objective in ("paper", "paper_bounded")
