"""Maps over an image's pixels that show where networks see the private label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.removal.mask import is_masked, mask_map, painted, region_finder

Array = np.ndarray[Any, Any]


class RegionMaps(NamedTuple):
    """Maps of n images.

    Attributes:
        heat: `[n, S, S]` float32, at least 0, higher where more sensitive.
        covered: `[n, S, S]` bool, pixels that the encoder never sees; None without a mask.
    """

    heat: Array
    covered: Array | None


MakeMaps = Callable[[Array], RegionMaps]
MapReader = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor | None]]


def region_source(bundle: Bundle) -> str | None:
    """Returns the source of the map: 'mask', 'discriminator', or None if there is neither."""
    if is_masked(bundle.encoder):
        return "mask"
    return None if bundle.discriminator is None else "discriminator"


def region_maps(bundle: Bundle) -> MakeMaps:
    """Returns images `[n, S, S, 3]` uint8 -> their maps, in inference mode; see `map_reader`.

    Raises:
        ValueError: the bundle has neither mask nor discriminator.
    """
    read = tf.function(map_reader(bundle), autograph=False, reduce_retracing=True)

    def maps(images: Array) -> RegionMaps:
        heat, covered = read(tf.convert_to_tensor(images))
        return RegionMaps(heat.numpy(), None if covered is None else covered.numpy())

    return maps


def map_reader(bundle: Bundle) -> MapReader:
    """Returns the operations `[B, S, S, 3]` uint8 -> (heat, covered) of `RegionMaps`, as tensors.

    With a mask, heat is the probability that it gives each cell. Without, it is the discriminator's
    `evidence`, enlarged bilinearly.

    Raises:
        ValueError: the bundle has neither mask nor discriminator.
    """
    source = region_source(bundle)
    if source is None:
        raise ValueError("the bundle has neither mask nor discriminator")
    if source == "mask":
        return _of_mask(bundle.encoder)

    def read(images: tf.Tensor) -> tuple[tf.Tensor, None]:
        cells = evidence(bundle, bundle.encoder(to_float(images), training=False))
        return tf.image.resize(cells, tf.shape(images)[1:3])[..., 0], None

    return read


def evidence(bundle: Bundle, features: tf.Tensor) -> tf.Tensor:
    """Computes gradient times input of the discriminator, `[B, h, w, 1]` float32, at least 0.

    The gradient is that of the log-probability of its most probable class; absolute values are
    summed over channels (Shrikumar et al. 2016, "Not Just a Black Box", gradient * input).

    Args:
        bundle: has a discriminator.
        features: `[B, h, w, c]`.
    """
    assert bundle.discriminator is not None
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(features)
        logits = bundle.discriminator(features, training=False)
        # Rows are independent in the discriminator, so the sum's gradient is that of each row.
        answers = tf.reduce_sum(tf.reduce_max(tf.nn.log_softmax(logits), axis=-1))
    return tf.reduce_sum(tf.abs(tape.gradient(answers, features) * features), -1, keepdims=True)


def seen_pictures(encoder: keras.Model, images: Array) -> Array:
    """Returns images as an encoder with a mask sees them: both `[n, S, S, 3]` uint8.

    Raises:
        ValueError: the encoder has no mask.
    """
    seen = painted(encoder)(to_float(tf.convert_to_tensor(images)), training=False)[..., :3]
    return np.rint(255.0 * seen.numpy()).astype(np.uint8)


def _of_mask(encoder: keras.Model) -> MapReader:
    outputs = [region_finder(encoder).output, mask_map(encoder).output]
    both = keras.Model(encoder.inputs[0], outputs)

    def read(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        odds, cells = both(to_float(images), training=False)
        cell = tf.shape(images)[1] // tf.shape(odds)[1]
        return _enlarged(tf.sigmoid(odds), cell), _enlarged(cells, cell) > 0.0

    return read


def _enlarged(cells: tf.Tensor, cell: tf.Tensor) -> tf.Tensor:
    return tf.repeat(tf.repeat(cells[..., 0], cell, axis=1), cell, axis=2)
