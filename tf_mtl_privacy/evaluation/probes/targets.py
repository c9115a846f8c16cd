"""Views of a row that attackers get: features, restored images, pixels, logits, the mask.

What attackers see of an encoder that adds noise: one draw, the mean of many, and none at all.

Noise that is drawn anew for every request can be averaged away by who asks often for the same
picture, and whitening undoes any scale; so a single draw says too little about what got through.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.evaluation.probes.data import ProbeData
from tf_mtl_privacy.evaluation.probes.rows import AttackRows
from tf_mtl_privacy.removal.mask import mask_map, painted
from tf_mtl_privacy.removal.noise import FeatureNoise, noiseless

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


Array = np.ndarray[Any, Any]
_BATCH = 256


def pixels(images: Any) -> Any:
    """`[B, S, S, 3]` uint8 -> float32 in [0, 1]."""
    return to_float(images)


def features(encoder: keras.Model) -> View:
    """Images -> features `[B, h, w, c]` float32 as they are released: in inference mode."""
    return lambda images: encoder(to_float(images), training=False)


def masked_pictures(encoder: keras.Model) -> View:
    """Images -> pictures as the encoder gets them, painted over, `[B, S, S, 4]` float32.

    The fourth channel is the mask. All that the encoder gives away is computed from this.

    Raises:
        ValueError: the encoder has no mask.
    """
    cover = painted(encoder)
    return lambda images: cover(to_float(images), training=False)


def regions(encoder: keras.Model) -> View:
    """Images -> what an encoder's mask covers, `[B, m, m, 1]` float32, 0 or 1."""
    finder = mask_map(encoder)
    return lambda images: finder(to_float(images), training=False)


def restored(restorer: keras.Model) -> View:
    """Features -> restored images `[B, S, S, 3]` float32 in [0, 1]."""
    return lambda rows: restorer(rows, training=False)


def logits(business: keras.Model) -> View:
    """Features -> logits of all business tasks side by side, `[B, classes]` float32."""
    return lambda rows: tf.concat(list(business(rows, training=False).values()), axis=-1)


def seen_through(
    view: View,
    rows: AttackRows,
    classes: int,
    most: int | None = None,
    test: Array | None = None,
) -> ProbeData:
    """Returns what attackers get of pictures.

    Args:
        view: `[B, S, S, 3]` uint8 tensor -> `[B, ...]` float32.
        rows: pictures and labels.
        classes: K.
        most: learn from at most so many rows; None means all.
        test: what the view makes of the test pictures, where that is known already.
    """
    see = seen_by(view, rows.test.images)
    train, validation, tested = rows
    return ProbeData(
        see(train.images[:most]),
        train.labels[:most],
        see(validation.images),
        validation.labels,
        see(tested.images) if test is None else test,
        tested.labels,
        classes,
    )


def passed_on(
    view: View, data: ProbeData, most: int | None = None, test: Array | None = None
) -> ProbeData:
    """Returns what attackers get of what a head makes of features that are there already.

    Args:
        view: `[B, h, w, c]` float32 tensor -> `[B, ...]` float32.
        data: the features.
        most: learn from at most so many rows; None means all.
        test: what the view makes of the test features, where that is known already.
    """
    see = seen_by(view, data.test)
    return ProbeData(
        see(data.train[:most]),
        data.train_labels[:most],
        see(data.validation),
        data.validation_labels,
        see(data.test) if test is None else test,
        data.test_labels,
        data.classes,
    )


def fewer(data: ProbeData, most: int) -> ProbeData:
    """Returns the same with the first `most` rows to learn from; nothing is copied.

    Rows are in random order (`rows.py`), so the first of them are a random sample.
    """
    return dataclasses.replace(data, train=data.train[:most], train_labels=data.train_labels[:most])


def with_regions(data: ProbeData, covered: ProbeData) -> ProbeData:
    """Features beside what the mask covers in each of their cells.

    Args:
        data: features, `[N, h, w, c]`.
        covered: `[N, m, m, 1]` of the same rows; one of m and h divides the other.

    Returns:
        `[N, h, w, c + k]`: a cell's k marks, or the mark of the larger cell that it lies in.
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
    """The view as a function of rows of any number, in one graph.

    Args:
        view: `[B, ...]` tensor -> `[B, ...]` float32.
        example: rows of the same dtype and shape as those that it is called with.
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
