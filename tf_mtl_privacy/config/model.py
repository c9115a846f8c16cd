"""Shapes of the encoder and its heads."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Shapes of the encoder and its heads."""

    encoder: str = option(
        "compact", "Encoder architecture.", choices=("compact", "resnet50", "mobilenet_v2")
    )
    encoder_weights: str = option(
        "none",
        "Pre-trained encoder weights: 'none', 'imagenet', a .weights.h5 file, or 'auto'; 'auto' is "
        "'imagenet' for the encoders that have such weights, 'none' for 'compact' and with "
        "--backbone.",
    )
    backbone: str = option(
        "",
        "Run folder of this package whose encoder to start from, instead of --encoder_weights.",
    )
    backbone_heads: bool = option(
        True, "With --backbone: start the heads from that run's, where their shapes agree."
    )
    freeze_backbone: bool = option(
        False, "Train only the adapter (1x1 convolution + GroupNorm) on top of the backbone."
    )
    feature_stride: int = option(4, "Pixels per feature cell: 4, 8, 16 or 32.", low=4, high=32)
    feature_channels: int = option(16, "Channels of the feature map.", low=1, high=2048)
    pixel_path: bool = option(
        False,
        "Hand the picture (covered where it is masked) to the adapter beside the backbone's "
        "features, so that restoration is not limited by the backbone.",
    )
    compact_width: int = option(32, "Channels of the compact encoder's first layer.", low=8)
    discriminator: str = option(
        "conv",
        "Shape of the discriminator: convolutions down to few cells, one hidden layer on all "
        "cells, convolutions whose cells are pooled by attention, or two convolutions and a soft "
        "maximum over cells.",
        choices=("conv", "dense", "pooled", "soft"),
    )
    discriminator_units: int = option(
        64,
        "Width of the dense discriminator's hidden layer; the others have half as many channels, "
        "'soft' a quarter of them in its first layer.",
        low=1,
    )
    discriminator_whitening: bool = option(
        False,
        "Show the discriminator channels of equal size that do not vary together: by the features "
        "of validation rows before its pre-training, and again only where it starts anew.",
    )
    business_units: int = option(64, "Width of the business head.", low=4)
    restorer_width: int = option(48, "Channels of the restorer's convolutions.", low=4)

    def __post_init__(self) -> None:
        check_options(self)
        if self.feature_stride not in (4, 8, 16, 32):
            raise UsageError(f"--feature_stride={self.feature_stride}: expected 4, 8, 16 or 32")
        self._check_compact()
        if self.backbone and self.effective_encoder_weights != "none":
            raise UsageError(
                f"--backbone={self.backbone}: gives the encoder's weights; leave out "
                f"--encoder_weights={self.encoder_weights}, or give --encoder_weights=none"
            )
        if self.freeze_backbone and not self.has_start:
            raise UsageError(
                "--freeze_backbone needs --backbone or --encoder_weights: a random backbone cannot "
                "be used frozen"
            )

    def _check_compact(self) -> None:
        """Names all flags at once that were meant for another encoder."""
        if self.encoder != "compact":
            return
        wrong = []
        if self.feature_stride > 16:
            wrong.append(
                f"--feature_stride={self.feature_stride}: the compact encoder has strides 4, 8 and "
                "16, give one of them"
            )
        if self.encoder_weights == "imagenet":
            wrong.append(
                "--encoder_weights=imagenet: there are none for the compact encoder, give "
                "--encoder_weights=none"
            )
        if wrong:
            raise UsageError("; ".join(wrong))

    @property
    def effective_encoder_weights(self) -> str:
        """'none', 'imagenet' or a file: the weights as given, or what 'auto' stands for."""
        if self.encoder_weights != "auto":
            return self.encoder_weights
        return "none" if self.encoder == "compact" or self.backbone else "imagenet"

    @property
    def has_start(self) -> bool:
        """Whether the encoder starts from weights that were trained before."""
        return bool(self.backbone) or self.effective_encoder_weights != "none"
