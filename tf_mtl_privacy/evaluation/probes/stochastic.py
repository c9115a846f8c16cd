"""What attackers see of an encoder that adds noise: one draw, the mean of many, and none at all.

Noise that is drawn anew for every request can be averaged away by who asks often for the same
picture, and whitening undoes any scale; so a single draw says too little about what got through.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.noise import FeatureNoise, noiseless

View = Callable[[Any], Any]
DRAWS = 64


def feature_views(encoder: keras.Model) -> dict[str, View]:
    """Name -> view of the features, images `[B, S, S, 3]` uint8 -> `[B, h, w, c]` float32.

    Without noise a single one with an empty name: features as they are released. With noise
    `one_draw`, as they are released; `mean_of_64`, what a client who asks so often for each
    picture gets; and `noiseless`, which nobody is given: the end of what averaging can do.
    """
    layer = next((found for found in encoder.layers if isinstance(found, FeatureNoise)), None)

    def released(images: Any) -> Any:
        return encoder(to_float(images), training=False)

    if layer is None:
        return {"": released}
    bare = noiseless(encoder)

    def without(images: Any) -> Any:
        return bare(to_float(images), training=False)

    def averaged(images: Any) -> Any:
        # The mean of so many draws is distributed as one draw of a smaller deviation.
        found = without(images)
        noise = tf.random.stateless_normal(tf.shape(found), _seed(images), dtype=found.dtype)
        return found + layer.deviation / DRAWS**0.5 * noise

    return {"one_draw": released, f"mean_of_{DRAWS}": averaged, "noiseless": without}


def most_draws(encoder: keras.Model) -> tuple[int, View]:
    """(draws of its noise for each picture that attackers may average, what they see then).

    1 and the features as they are released where there is no noise.
    """
    views = feature_views(encoder)
    if len(views) == 1:
        return 1, views[""]
    return DRAWS, views[f"mean_of_{DRAWS}"]


def _seed(images: Any) -> Any:
    """`[2]` int64 that follow from the pictures, so that a check depends on nothing else."""
    return tf.stack([tf.constant(DRAWS, tf.int64), tf.reduce_sum(tf.cast(images, tf.int64))])
