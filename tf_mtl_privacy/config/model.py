"""Options of the networks."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """Architecture of the encoder and its heads, and the weights to start from."""

    encoder: str = option(
        "compact", "Encoder architecture.", choices=("compact", "resnet50", "mobilenet_v2")
    )
    encoder_weights: str = option(
        "none",
        "Pre-trained encoder weights: 'none', 'imagenet', a .weights.h5 file, or 'auto', which is "
        "'imagenet' for encoders that have such weights, 'none' for 'compact' and with --backbone.",
    )
    backbone: str = option(
        "",
        "Folder of a finished run; training starts from its encoder instead of --encoder_weights.",
    )
    backbone_heads: bool = option(
        True, "With --backbone: also start from that run's heads if their shapes agree."
    )
    freeze_backbone: bool = option(
        False, "Train only the adapter (1x1 convolution + GroupNorm) on top of the backbone."
    )
    feature_stride: int = option(4, "Pixels per feature cell: 4, 8, 16 or 32.", low=4, high=32)
    feature_channels: int = option(16, "Channels of the feature map.", low=1, high=2048)
    pixel_path: bool = option(
        False,
        "Feed the (masked) picture to the adapter together with the backbone's features, so that "
        "the backbone does not limit restoration.",
    )
    compact_width: int = option(32, "Channels of the compact encoder's first layer.", low=8)
    discriminator: str = option(
        "conv",
        "Architecture of the discriminator: strided convolutions ('conv'), one hidden layer on all "
        "cells ('dense'), convolutions with attention pooling ('pooled'), or two convolutions with "
        "a soft maximum over cells ('soft').",
        choices=("conv", "dense", "pooled", "soft"),
    )
    discriminator_units: int = option(
        64,
        "Width of the dense discriminator's hidden layer; the others have half as many channels "
        "('soft': a quarter in its first layer).",
        low=1,
    )
    discriminator_whitening: bool = option(
        False,
        "Whiten the discriminator's input: decorrelated channels of equal variance. The transform "
        "is computed from validation rows before pre-training, and again when a discriminator "
        "restarts.",
    )
    business_units: int = option(64, "Width of the task heads.", low=4)
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
                "--freeze_backbone requires --backbone or --encoder_weights: without them it would "
                "freeze random weights"
            )

    def _check_compact(self) -> None:
        """Raises one UsageError for all flags that the compact encoder does not support."""
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
                "--encoder_weights=imagenet: the compact encoder has no such weights, give "
                "--encoder_weights=none"
            )
        if wrong:
            raise UsageError("; ".join(wrong))

    @property
    def effective_encoder_weights(self) -> str:
        """The encoder weights with 'auto' resolved: 'none', 'imagenet' or a file."""
        if self.encoder_weights != "auto":
            return self.encoder_weights
        return "none" if self.encoder == "compact" or self.backbone else "imagenet"

    @property
    def has_start(self) -> bool:
        """True if the encoder starts from pre-trained weights."""
        return bool(self.backbone) or self.effective_encoder_weights != "none"
