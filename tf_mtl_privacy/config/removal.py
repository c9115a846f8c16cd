"""What takes the private information out of the features, besides the adversarial game."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError


@dataclasses.dataclass(frozen=True)
class RemovalConfig:
    """What takes the private information out of the features, besides the adversarial game."""

    mask: str = option(
        "none",
        "Cover the regions of the picture that say the private label before the encoder sees it: "
        "'learned' finds them in a phase of its own, against a reader that is trained with it.",
        choices=("none", "learned"),
    )
    mask_cell: int = option(2, "Pixels along the side of a cell of the mask.", low=1, high=16)
    mask_fill: str = option(
        "grey",
        "What covered pixels become: grey, so that nothing of them passes; the mean colour of all "
        "covered pixels of the picture, three numbers; or themselves without their share of the "
        "one axis of colour that says the private label ('colour'; found in closed form).",
        choices=("grey", "mean", "colour"),
    )
    mask_margin: int = option(
        0, "Cells around what the mask finds that are covered, too.", low=0, high=16
    )
    mask_width: int = option(16, "Channels of the network that finds regions.", low=4)
    mask_area_penalty: float = option(
        3.0, "Price of covering the whole picture, in nats of the reader's confusion.", above=0
    )
    region_labels: str = option(
        "public",
        "Whose private labels the reader of the mask's phase learns from: those of faces that are "
        "drawn and of nobody, or those of the run's training rows, of which no epsilon takes "
        "account.",
        choices=("public", "train"),
    )
    region_rows: int = option(12_000, "With --region_labels=public: how many faces.", low=64)
    region_epochs: int = option(4, "Epochs of the mask's phase.", low=0)
    region_learning_rate: float = option(
        1e-3, "Adam's step size for the mask; its reader's is three times that.", above=0
    )
    mask_warmup_steps: int = option(
        200, "Steps of the mask's phase in which only the reader learns.", low=0
    )
    feature_noise: float = option(
        0.0,
        "Standard deviation of Gaussian noise on the features, which then have unit variance "
        "without scale or offset of their own; also in what is released. 0 means none.",
        low=0,
    )
    erasure: str = option(
        "none",
        "Erase from the features what a linear reader of the private label finds: 'leace' "
        "(closed form, refitted before each joint epoch).",
        choices=("none", "leace"),
    )
    erasure_rank: int = option(
        0,
        "With --erasure: most directions of the features that go, those that say most of the "
        "private label first; 0 means one less than it has classes, which leaves a linear reader "
        "nothing.",
        low=0,
    )
    erasure_components: int = option(
        128,
        "With --erasure: leading components of the features by which it is whitened, so that it "
        "changes them least; with few rows they are not known well enough, and 0 takes the "
        "directions away at right angles.",
        low=0,
    )
    erasure_labels: str = option(
        "public",
        "Whose private labels the erasure is fitted to; see --region_labels.",
        choices=("public", "train"),
    )

    def __post_init__(self) -> None:
        check_options(self)
        if self.mask_cell & (self.mask_cell - 1):
            raise UsageError(f"--mask_cell={self.mask_cell}: expected a power of two")

    @property
    def has_mask(self) -> bool:
        """Whether the encoder covers parts of the picture."""
        return self.mask != "none"

    @property
    def reads_public_faces(self) -> bool:
        """Whether public faces are drawn for it."""
        return (self.has_mask and self.region_labels == "public") or (
            self.erasure != "none" and self.erasure_labels == "public"
        )
