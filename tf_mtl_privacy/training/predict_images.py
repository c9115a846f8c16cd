"""What a trained bundle says about pictures that belong to no data set."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.bundle import Bundle

Array = np.ndarray[Any, Any]


class ImagePredictions(NamedTuple):
    """What the networks say about N pictures.

    Attributes:
        probabilities: task -> `[N, classes]` float32, each row sums to 1.
        restored: `[N, S, S, 3]` uint8, or None where not asked for.
    """

    probabilities: dict[str, Array]
    restored: Array | None


def predict_images(bundle: Bundle, images: Array, *, restore: bool = False) -> ImagePredictions:
    """One forward pass in inference mode over a batch.

    Args:
        bundle: the networks.
        images: `[N, S, S, 3]` uint8, prepared as for training; N > 0.
        restore: also restore the pictures from their features.

    Raises:
        ValueError: `restore`, and the bundle has no restorer.
    """
    features = bundle.encoder(to_float(tf.convert_to_tensor(images)), training=False)
    logits = bundle.business(features, training=False)
    probabilities = {task: tf.nn.softmax(values).numpy() for task, values in logits.items()}
    restored = None
    if restore:
        if bundle.restorer is None:
            raise ValueError("the bundle has no restorer")
        values = np.asarray(bundle.restorer(features, training=False))
        restored = np.rint(values * 255.0).clip(0, 255).astype(np.uint8)
    return ImagePredictions(probabilities, restored)
