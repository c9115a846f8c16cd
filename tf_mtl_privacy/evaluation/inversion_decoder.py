"""An attacker's decoder: features back to images, learned from images of its own.

It starts as the best linear map from each cell's features to the pixels under it (ridge
regression, Hoerl and Kennard 1970), in closed form, so that pixels which features carry as they
are come back at once and training never has to find them. Convolutions over the cells, which start
at zero, then learn what is left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.layers import Layers
from tf_mtl_privacy.models.pixels import from_cells
from tf_mtl_privacy.training.losses import psnr

Array = np.ndarray[Any, Any]
_BATCH = 64
# Ridge penalty over the mean variance of a (standardised) feature.
_RIDGE = 1e-3
_MOST_CELLS = 200_000


@dataclasses.dataclass(frozen=True)
class DecoderSetting:
    """How hard the attacker tries.

    Attributes:
        width: channels of the convolutions.
        blocks: residual blocks of two convolutions.
        epochs: passes over the attacker's rows.
        rate: Adam's largest step size; it falls along a cosine.
    """

    width: int
    blocks: int
    epochs: int
    rate: float


def fit_decoder(
    features: Array,
    images: Array,
    setting: DecoderSetting,
    seed: int,
    done: Callable[[int], None] = lambda count: None,
) -> Callable[[Array], Array]:
    """Trains a decoder for a fixed time and keeps the epoch that restored held-out rows best.

    A tenth of the rows is held out for that choice; the linear start is one of the candidates.

    Args:
        features: `[N, h, w, c]` float32, N >= 2.
        images: `[N, H, W, 3]` uint8, H = h * s and W = w * s for a whole s.
        setting: size and time.
        seed: of weights, held-out rows and order.
        done: called with 1 after every epoch.

    Returns:
        A function from features `[M, h, w, c]` to images `[M, H, W, 3]` float32 in [0, 1].

    Raises:
        ValueError: the shapes do not fit.
    """
    stride = _stride(features, images)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    held = max(1, len(images) // 10)
    validation, train = order[:held], order[held:]
    # Statistics from a part, where there is much: all rows at once would be copied.
    part = rng.permutation(train)[: max(1, _MOST_CELLS // (features.shape[1] * features.shape[2]))]
    mean, spread = features[part].mean((0, 1, 2)), features[part].std((0, 1, 2))
    # What changes by less than rounding says nothing, and must not be blown up; how small a
    # feature is says nothing either, so it is compared with its own mean.
    scale = np.where(spread > 1e-6 * np.abs(mean), 1 / np.maximum(spread, 1e-30), 0.0)
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    model = _network(features.shape[1:], stride, setting, seed)
    _start_linear(model, (features[part] - mean) * scale, images[part], stride)
    steps = max(1, len(train) // _BATCH * setting.epochs)
    schedule = keras.optimizers.schedules.CosineDecay(setting.rate, steps)
    step, decode = _graphs(model, keras.optimizers.Adam(schedule), mean, scale)

    def restore(rows: Array) -> Array:
        parts = [decode(rows[at : at + 256]).numpy() for at in range(0, len(rows), 256)]
        return np.concatenate(parts)

    def quality() -> float:
        restored = restore(features[validation])
        return float(tf.reduce_mean(psnr(restored, to_float(images[validation]))))

    best, kept = quality(), model.get_weights()
    for _ in range(setting.epochs):
        shuffled = rng.permutation(train)
        for at in range(0, max(len(train) - _BATCH, 0) + 1, _BATCH):
            rows = shuffled[at : at + _BATCH]
            step(features[rows], images[rows])
        found = quality()
        if found > best:
            best, kept = found, model.get_weights()
        done(1)
    model.set_weights(kept)
    return restore


def _stride(features: Array, images: Array) -> int:
    """Pixels along a cell's side.

    Raises:
        ValueError: the cells do not tile the images, or the rows are not as many.
    """
    if features.ndim != 4 or images.ndim != 4 or len(features) != len(images):
        raise ValueError(f"features {features.shape} and images {images.shape} do not fit")
    stride = images.shape[1] // features.shape[1]
    if images.shape[1:3] != (features.shape[1] * stride, features.shape[2] * stride):
        raise ValueError(f"cells of features {features.shape} do not tile images {images.shape}")
    return stride


def _network(
    shape: tuple[int, ...], stride: int, setting: DecoderSetting, seed: int
) -> keras.Model:
    """Standardised features `[B, h, w, c]` -> `[B, h*s, w*s, 3]`, not yet clipped."""
    layers = Layers(seed, "inversion")
    pixels = 3 * stride**2
    inputs = keras.Input(shape)
    linear = layers.conv(pixels, 1, "linear", from_zero=True)(inputs)
    x = layers.conv(setting.width, 3, "in", activation="relu")(inputs)
    for number in range(setting.blocks):
        y = layers.conv(setting.width, 3, f"block{number}_in", activation="relu")(x)
        y = layers.conv(setting.width, 3, f"block{number}_out", from_zero=True)(y)
        x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    rest = layers.conv(pixels, 3, "rest", from_zero=True)(x)
    return keras.Model(inputs, from_cells(keras.layers.Add()([linear, rest]), stride, "pixels"))


def _start_linear(model: keras.Model, rows: Array, images: Array, stride: int) -> None:
    """Sets the linear layer to the ridge solution of (standardised) cells -> their pixels."""
    _, height, width, channels = rows.shape
    x = rows.reshape(-1, channels)
    y = images.reshape(-1, height, stride, width, stride, 3).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(len(x), -1).astype(np.float32) / 255.0
    middle, centre = y.mean(0), x.mean(0)
    x = x - centre
    gram = (x.T @ x).astype(np.float64)
    penalty = _RIDGE * max(np.trace(gram) / channels, 1e-12)
    weights = np.linalg.solve(gram + penalty * np.eye(channels), x.T @ (y - middle))
    bias = middle - centre @ weights
    kernel = weights.reshape(1, 1, channels, -1).astype(np.float32)
    model.get_layer("linear").set_weights([kernel, bias.astype(np.float32)])


def _graphs(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, mean: Array, scale: Array
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(one update on the squared error, features -> images) as compiled functions."""
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(features: tf.Tensor, images: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            restored = model((features - mean) * scale, training=True)
            loss = tf.reduce_mean(tf.square(restored - to_float(images)))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    @tf.function(autograph=False, reduce_retracing=True)
    def decode(features: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(model((features - mean) * scale, training=False), 0.0, 1.0)

    return step, decode
