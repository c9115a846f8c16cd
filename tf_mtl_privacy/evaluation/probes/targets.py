"""What of each row an attacker may see: features, restored images, pixels, logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.evaluation.probes.data import ProbeData
from tf_mtl_privacy.evaluation.probes.rows import AttackRows

Array = np.ndarray[Any, Any]
View = Callable[[Any], Any]
_BATCH = 256


def pixels(images: Any) -> Any:
    """`[B, S, S, 3]` uint8 -> float32 in [0, 1]."""
    return to_float(images)


def features(encoder: keras.Model) -> View:
    """Images -> features `[B, h, w, c]` float32 as they are released: in inference mode."""
    return lambda images: encoder(to_float(images), training=False)


def restored(encoder: keras.Model, restorer: keras.Model) -> View:
    """Images -> restored images `[B, S, S, 3]` float32 in [0, 1]."""
    return lambda images: restorer(encoder(to_float(images), training=False), training=False)


def logits(encoder: keras.Model, business: keras.Model) -> View:
    """Images -> logits of all business tasks side by side, `[B, classes]` float32."""

    def view(images: Any) -> Any:
        found = business(encoder(to_float(images), training=False), training=False)
        return tf.concat(list(found.values()), axis=-1)

    return view


def seen_through(view: View, rows: AttackRows, classes: int, most: int | None = None) -> ProbeData:
    """What attackers get of rows.

    Args:
        view: `[B, S, S, 3]` uint8 tensor -> `[B, ...]` float32.
        rows: pictures and labels.
        classes: K.
        most: learn from at most so many rows; None means all.
    """
    # One graph for batches of any length.
    spec = tf.TensorSpec([None, *rows.test.images.shape[1:]], tf.uint8)
    graph = tf.function(view, input_signature=[spec])

    def seen(images: Array) -> Array:
        parts = [
            graph(tf.convert_to_tensor(images[start : start + _BATCH])).numpy()
            for start in range(0, len(images), _BATCH)
        ]
        return np.concatenate(parts)

    train = rows.train
    return ProbeData(
        seen(train.images[:most]),
        train.labels[:most],
        seen(rows.validation.images),
        rows.validation.labels,
        seen(rows.test.images),
        rows.test.labels,
        classes,
    )
