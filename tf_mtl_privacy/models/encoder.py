"""The shared encoder: a backbone that ends at the chosen stride, and an adapter on top of it."""

from __future__ import annotations

from typing import Any

import keras

from tf_mtl_privacy.config import ModelConfig
from tf_mtl_privacy.models.backbone import ADAPTER, load_backbone
from tf_mtl_privacy.models.compact import compact_backbone
from tf_mtl_privacy.models.layers import Layers, group_norm
from tf_mtl_privacy.models.pretrained import load_encoder_weights, pretrained_backbone


def build_encoder(config: ModelConfig, image_size: int, *, seed: int = 0) -> keras.Model:
    """The encoder: `[B, S, S, 3]` in [0, 1] -> `[B, S/stride, S/stride, feature_channels]`.

    Both are float32. The last part is the adapter, a 1x1 convolution and GroupNorm over all its
    channels (layers `adapter_conv`, `adapter_norm`); it stays trainable when the backbone is
    frozen. BatchNorm of a pre-trained backbone uses the batch's statistics only when the model is
    called with `training=True`, and never when the backbone is frozen.

    Args:
        config: shape, weights and freezing of the encoder.
        image_size: height and width of the images, S.
        seed: of the initial weights.

    Raises:
        UsageError: a size the backbone does not take, or a weights file that does not fit.
        RunError: ImageNet weights could not be fetched.
    """
    inputs = keras.Input((image_size, image_size, 3), name="image")
    backbone = _backbone(config, inputs, image_size, seed)
    if config.freeze_backbone:
        for layer in keras.Model(inputs, backbone).layers:
            layer.trainable = False
    layers = Layers(seed, "encoder")
    x = layers.conv(config.feature_channels, 1, f"{ADAPTER}conv")(backbone)
    # One group: what is normalised away is two numbers per image, not two per channel.
    x = group_norm(config.feature_channels, f"{ADAPTER}norm", groups=1)(x)
    encoder = keras.Model(inputs, x, name="encoder")
    if config.backbone:
        load_backbone(encoder, config.backbone)
    if config.encoder_weights not in ("none", "imagenet"):
        load_encoder_weights(encoder, config.encoder_weights, config.encoder)
    return encoder


def _backbone(config: ModelConfig, inputs: Any, image_size: int, seed: int) -> Any:
    if config.encoder == "compact":
        return compact_backbone(
            inputs, stride=config.feature_stride, width=config.compact_width, seed=seed
        )
    return pretrained_backbone(
        inputs,
        name=config.encoder,
        stride=config.feature_stride,
        image_size=image_size,
        imagenet=config.encoder_weights == "imagenet",
        seed=seed,
    )
