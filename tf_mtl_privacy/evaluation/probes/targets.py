"""Views of a picture that attackers get: features, restored images, pixels, logits, the mask.

A client who requests the same picture repeatedly can average away noise that is drawn anew for each
request, and whitening undoes any scale. Features with noise are therefore attacked as the mean of
`DRAWS` draws; a single draw would understate the leakage.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

# Loaded before `removal`, which imports a module of it.
import tf_mtl_privacy.models  # noqa: F401
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.evaluation.probes.data import AttackRows, ProbeData
from tf_mtl_privacy.removal.mask import mask_map, painted
from tf_mtl_privacy.removal.noise import FeatureNoise, noiseless
from tf_mtl_privacy.types import Array

View = Callable[[Any], Any]
DRAWS = 64


def feature_views(encoder: keras.Model) -> dict[str, View]:
    """Returns views of the features by name, images `[B, S, S, 3]` uint8 -> `[B, h, w, c]` float32.

    Without noise there is one view with an empty name, the released features. With noise there are
    `one_draw`, the released features; `mean_of_64`, the mean over 64 requests for the same picture;
    and `noiseless`, the limit of averaging, which is not released.
    """
    layer = next((part for part in encoder.layers if isinstance(part, FeatureNoise)), None)

    def released(images: Any) -> Any:
        return encoder(to_float(images), training=False)

    if layer is None:
        return {"": released}
    quiet = noiseless(encoder)

    def without(images: Any) -> Any:
        return quiet(to_float(images), training=False)

    def averaged(images: Any) -> Any:
        # The mean of several draws is distributed as one draw with a smaller standard deviation.
        bare = without(images)
        noise = tf.random.stateless_normal(tf.shape(bare), _seed(images), dtype=bare.dtype)
        return bare + layer.deviation / DRAWS**0.5 * noise

    return {"one_draw": released, f"mean_of_{DRAWS}": averaged, "noiseless": without}


def most_draws(encoder: keras.Model) -> tuple[int, View]:
    """Returns the number of draws that attackers average for each picture, and their mean's view.

    Without noise these are 1 and the released features.
    """
    views = feature_views(encoder)
    if len(views) == 1:
        return 1, views[""]
    return DRAWS, views[f"mean_of_{DRAWS}"]


def _seed(images: Any) -> Any:
    """Returns a seed `[2]` int64 that only depends on the pictures, for repeatable checks."""
    return tf.stack([tf.constant(DRAWS, tf.int64), tf.reduce_sum(tf.cast(images, tf.int64))])


_BATCH = 256


def pixels(images: Any) -> Any:
    """Views pixels: `[B, S, S, 3]` uint8 -> float32 in [0, 1]."""
    return to_float(images)


def features(encoder: keras.Model) -> View:
    """Views the released features, in inference mode: images -> `[B, h, w, c]` float32."""
    return lambda images: encoder(to_float(images), training=False)


def masked_pictures(encoder: keras.Model) -> View:
    """Views the masked pictures that the encoder gets: images -> `[B, S, S, 4]` float32.

    The fourth channel is the mask. Everything that the encoder releases is computed from this.

    Raises:
        ValueError: the encoder has no mask.
    """
    cover = painted(encoder)
    return lambda images: cover(to_float(images), training=False)


def regions(encoder: keras.Model) -> View:
    """Views the cells that the encoder's mask covers: images -> `[B, m, m, 1]` float32, 0 or 1."""
    finder = mask_map(encoder)
    return lambda images: finder(to_float(images), training=False)


def restored(restorer: keras.Model) -> View:
    """Views restored images: features -> `[B, S, S, 3]` float32 in [0, 1]."""
    return lambda rows: restorer(rows, training=False)


def logits(business: keras.Model) -> View:
    """Views the concatenated logits of all business tasks: features -> `[B, classes]` float32."""
    return lambda rows: tf.concat(list(business(rows, training=False).values()), axis=-1)


def picture_rows(
    view: View,
    rows: AttackRows,
    classes: int,
    max_rows: int | None = None,
    test: Array | None = None,
) -> ProbeData:
    """Applies a view to pictures and returns its rows.

    Args:
        view: `[B, S, S, 3]` uint8 tensor -> `[B, ...]` float32.
        rows: pictures and labels.
        classes: K.
        max_rows: largest number of training rows; None means all.
        test: the view of the test pictures, where it is known already.
    """
    see = seen_by(view, rows.test.images)
    train, validation, tested = rows
    return ProbeData(
        see(train.images[:max_rows]),
        train.labels[:max_rows],
        see(validation.images),
        validation.labels,
        see(tested.images) if test is None else test,
        tested.labels,
        classes,
    )


def feature_rows(
    view: View, data: ProbeData, max_rows: int | None = None, test: Array | None = None
) -> ProbeData:
    """Applies a view to features and returns its rows.

    Args:
        view: `[B, h, w, c]` float32 tensor -> `[B, ...]` float32.
        data: the features.
        max_rows: largest number of training rows; None means all.
        test: the view of the test features, where it is known already.
    """
    see = seen_by(view, data.test)
    return ProbeData(
        see(data.train[:max_rows]),
        data.train_labels[:max_rows],
        see(data.validation),
        data.validation_labels,
        see(data.test) if test is None else test,
        data.test_labels,
        data.classes,
    )


def fewer(data: ProbeData, count: int) -> ProbeData:
    """Returns the same data with the first `count` training rows, without a copy.

    Rows are in random order, so these are a random sample.
    """
    return dataclasses.replace(
        data, train=data.train[:count], train_labels=data.train_labels[:count]
    )


def with_regions(data: ProbeData, covered: ProbeData) -> ProbeData:
    """Returns features with the mask of each cell as further channels.

    Args:
        data: features, `[N, h, w, c]`.
        covered: `[N, m, m, 1]` of the same rows; one of m and h divides the other.

    Returns:
        Rows `[N, h, w, c + k]`: the k mask values within a cell, or the one of the larger cell
        around it.
    """

    def joined(rows: Array, marks: Array) -> Array:
        cells, size = rows.shape[1], marks.shape[1]
        if size >= cells:
            share = size // cells
            marks = marks.reshape(-1, cells, share, cells, share, 1).swapaxes(2, 3)
            return np.concatenate([rows, marks.reshape(-1, cells, cells, share**2)], axis=-1)
        marks = marks.repeat(cells // size, axis=1).repeat(cells // size, axis=2)
        return np.concatenate([rows, marks], axis=-1)

    return ProbeData(
        joined(data.train, covered.train),
        data.train_labels,
        joined(data.validation, covered.validation),
        data.validation_labels,
        joined(data.test, covered.test),
        data.test_labels,
        data.classes,
    )


def seen_by(view: View, example: Array) -> Callable[[Array], Array]:
    """Compiles a view into a function of any number of rows.

    Args:
        view: `[B, ...]` tensor -> `[B, ...]` float32.
        example: rows of the dtype and shape that it will be called with.
    """
    spec = tf.TensorSpec([None, *example.shape[1:]], example.dtype)
    graph = tf.function(view, autograph=False, input_signature=[spec])

    def see(rows: Array) -> Array:
        parts = [
            graph(tf.convert_to_tensor(rows[start : start + _BATCH])).numpy()
            for start in range(0, len(rows), _BATCH)
        ]
        return np.concatenate(parts)

    return see
