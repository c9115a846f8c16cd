"""Options of removal: methods that take private information out of the features."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError


@dataclasses.dataclass(frozen=True)
class RemovalConfig:
    """Removal of private information from the features, besides the adversarial game."""

    mask: str = option(
        "none",
        "Cover the image regions that reveal the private label before the encoder sees them: "
        "'learned' trains a mask in its own phase against a classifier of the label (the reader) "
        "that is trained with it.",
        choices=("none", "learned"),
    )
    mask_cell: int = option(2, "Side of a mask cell, in pixels.", low=1, high=16)
    mask_fill: str = option(
        "grey",
        "Fill of covered pixels: 'grey' passes nothing of them; 'mean' passes the mean colour of "
        "all covered pixels of the picture, three numbers; 'colour' passes the pixels without "
        "their component along the one colour axis that reveals the private label (found in "
        "closed form).",
        choices=("grey", "mean", "colour"),
    )
    mask_margin: int = option(
        0, "Margin that is covered around the learned mask, in cells.", low=0, high=16
    )
    mask_width: int = option(16, "Channels of the mask network.", low=4)
    mask_area_penalty: float = option(
        3.0,
        "Penalty for covering the whole picture, in nats, the unit of the reader's confusion.",
        above=0,
    )
    region_labels: str = option(
        "public",
        "Private labels on which the mask's reader is trained: those of synthetic faces that show "
        "no real person ('public'), or of the run's training rows ('train'), which no epsilon "
        "covers.",
        choices=("public", "train"),
    )
    region_rows: int = option(12_000, "With --region_labels=public: number of faces.", low=64)
    region_epochs: int = option(4, "Epochs of the mask's phase.", low=0)
    region_learning_rate: float = option(
        1e-3,
        "Learning rate (Adam) of the mask; that of its reader is three times as large.",
        above=0,
    )
    mask_warmup_steps: int = option(
        200, "First steps of the mask's phase, which train only the reader.", low=0
    )
    feature_noise: float = option(
        0.0,
        "Standard deviation of Gaussian noise on the features, which are normalised to unit "
        "variance without scale or offset; the released model also adds it. 0 means none.",
        low=0,
    )
    erasure: str = option(
        "none",
        "Erase from the features what a linear classifier of the private label uses: 'leace' "
        "(closed form, refitted before each joint epoch).",
        choices=("none", "leace"),
    )
    erasure_rank: int = option(
        0,
        "With --erasure: maximum number of erased directions, the most informative about the "
        "private label first; 0 means the number of its classes minus one, which leaves a linear "
        "classifier at chance.",
        low=0,
    )
    erasure_components: int = option(
        128,
        "With --erasure: number of leading principal components of the features used for "
        "whitening, so that the erasure changes the features least. With few rows they cannot be "
        "estimated well; 0 projects out the directions orthogonally instead.",
        low=0,
    )
    erasure_labels: str = option(
        "public",
        "Private labels that the erasure is fitted to; see --region_labels.",
        choices=("public", "train"),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.mask_cell & (self.mask_cell - 1):
            raise UsageError(f"--mask_cell={self.mask_cell}: expected a power of two")

    @property
    def has_mask(self) -> bool:
        """True if the encoder covers parts of the picture."""
        return self.mask != "none"

    @property
    def switched_on(self) -> tuple[str, ...]:
        """Flags of these options that switch a method on, such as `--mask=learned`."""
        flags = {
            f"--mask={self.mask}": self.has_mask,
            f"--erasure={self.erasure}": self.erasure != "none",
            f"--feature_noise={self.feature_noise:g}": self.feature_noise > 0,
        }
        return tuple(flag for flag, is_on in flags.items() if is_on)

    @property
    def reads_public_faces(self) -> bool:
        """True if removal is fitted to public faces."""
        return (self.has_mask and self.region_labels == "public") or (
            self.erasure != "none" and self.erasure_labels == "public"
        )
