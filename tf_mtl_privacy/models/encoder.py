"""The shared encoder: a backbone that ends at the chosen stride, and an adapter on top of it.

The compact backbone is a small residual network for CPUs: trained from scratch, no BatchNorm.
"""

from __future__ import annotations

from typing import Any

import keras

from tf_mtl_privacy.config import ModelConfig, RemovalConfig
from tf_mtl_privacy.models.backbone import ADAPTER, load_backbone
from tf_mtl_privacy.models.layers import Layers, group_norm, to_cells
from tf_mtl_privacy.models.weights import load_encoder_weights, pretrained_backbone
from tf_mtl_privacy.removal import chosen

_BLOCKS = 2


def compact_backbone(inputs: Any, *, stride: int, width: int, seed: int) -> Any:
    """Builds `[B, S, S, 3]` in [0, 1] -> `[B, S/stride, S/stride, 2*width]` float32.

    The channels double where the resolution halves, up to `4 * width`, and the trunk is not
    normalised (only the residual branches are, as in He et al. 2016, "Identity Mappings"), so
    that small details and absolute brightness reach the end.

    Args:
        inputs: a Keras input tensor.
        stride: 4, 8 or 16.
        width: channels of the first layer.
        seed: of the initial weights.
    """
    layers = Layers(seed, "compact")
    x = keras.layers.Rescaling(2.0, -1.0, name="scale")(inputs)
    x = layers.conv(width, 5, "stem", strides=2, activation="relu")(x)
    channels, at = width, 2
    while at < stride:
        at, channels = at * 2, min(channels * 2, 4 * width)
        x = layers.conv(channels, 3, f"down{at}", strides=2)(x)
    for number in range(1, _BLOCKS + 1):
        x = _residual(layers, x, channels, channels // 2, f"block{number}")
    return keras.layers.Activation("relu", name="out")(x)


def _residual(layers: Layers, x: Any, channels: int, inner: int, name: str) -> Any:
    y = group_norm(channels, f"{name}_norm")(x)
    y = keras.layers.Activation("relu", name=f"{name}_relu")(y)
    y = layers.conv(inner, 1, f"{name}_conv1", activation="relu")(y)
    y = layers.conv(inner, 3, f"{name}_conv2", activation="relu")(y)
    y = layers.conv(channels, 1, f"{name}_conv3")(y)
    return keras.layers.Add(name=f"{name}_add")([x, y])


def build_encoder(
    config: ModelConfig,
    image_size: int,
    *,
    seed: int = 0,
    removal: RemovalConfig | None = None,
    private_classes: int = 2,
) -> keras.Model:
    """Builds the encoder: `[B, S, S, 3]` in [0, 1] -> `[B, S/stride, S/stride, c]`, float32.

    c is `feature_channels`. Removal methods that change the image come first: everything else sees
    their output only. Then follow the backbone and the adapter, a 1x1 convolution and GroupNorm
    over all its channels (layers `adapter_conv`, `adapter_norm`), which stays trainable when the
    backbone is frozen. With `pixel_path` the (covered) image's pixels in [-1, 1] follow as
    3 * stride^2 more channels, and before them, with a mask, stride^2 channels that mark the
    covered pixels. Removal methods that change features come last.

    The BatchNorm of a pre-trained backbone uses the batch's statistics only if the model is called
    with `training=True`, and never if the backbone is frozen.

    Args:
        config: shape, weights and freezing of the encoder.
        image_size: height and width of the images, S.
        seed: of the initial weights.
        removal: options of the removal methods; None for an encoder without any.
        private_classes: K, the number of private classes.

    Raises:
        UsageError: the backbone does not take this size, or a weights file does not fit.
        RunError: ImageNet weights could not be fetched.
    """
    inputs = keras.Input((image_size, image_size, 3), name="image")
    image, cover = inputs, None
    options = removal or RemovalConfig()
    methods = chosen(options) if removal is not None else ()
    for method in methods:
        image, covered = method.on_image(image, options, seed)
        cover = cover if covered is None else covered
    backbone = _backbone(config, image, image_size, seed)
    if config.freeze_backbone:
        for layer in keras.Model(inputs, backbone).layers:
            layer.trainable = False
    layers = Layers(seed, "encoder")
    x = layers.conv(config.feature_channels, 1, f"{ADAPTER}conv")(backbone)
    # One group: normalising removes two numbers per image, not two per channel.
    x = group_norm(config.feature_channels, f"{ADAPTER}norm", groups=1)(x)
    if config.pixel_path:
        x = _with_pixels(x, image, cover, config.feature_stride)
    for method in methods:
        x = method.on_features(x, options, private_classes)
    encoder = keras.Model(inputs, x, name="encoder")
    if config.backbone:
        load_backbone(encoder, config.backbone)
    if config.effective_encoder_weights not in ("none", "imagenet"):
        load_encoder_weights(encoder, config.effective_encoder_weights, config.encoder)
    return encoder


def _with_pixels(x: Any, image: Any, cover: Any, stride: int) -> Any:
    """Concatenates features, with a mask the cover's channels, and the image's pixels."""
    pixels = keras.layers.Rescaling(2.0, -1.0, name="pixels_scale")(image)
    parts = [x] if cover is None else [x, to_cells(cover, stride, "pixels_covered")]
    parts.append(to_cells(pixels, stride, "pixels"))
    return keras.layers.Concatenate(name="with_pixels")(parts)


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
        imagenet=config.effective_encoder_weights == "imagenet",
        seed=seed,
    )
