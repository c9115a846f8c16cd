"""Prepares the pictures of a request inside an exported graph, as training prepares its own.

Both functions refuse, with `tf.errors.InvalidArgumentError` when the graph runs, a request without
pictures or with more than `LARGEST_BATCH`, and pictures that `prepare_content` refuses.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

from tf_mtl_privacy.contract import LARGEST_BATCH
from tf_mtl_privacy.data.preprocess import (
    prepare_content,
    prepare_pixels,
    requiring,
    size_checks,
)

# Decoded at the same time: a picture of 50 megapixels takes 150 MB and more.
_DECODED_AT_ONCE = 2
Prepare = Callable[[tf.Tensor], tf.Tensor]


def pixels_ready(size: int, crop: str) -> Prepare:
    """Pixels `[B, H, W, 3]` uint8 -> `[B, size, size, 3]` uint8, as from files without loss.

    Args:
        size: height and width of the result, in pixels.
        crop: as for `prepare_content`. Where it takes the inner part, it does so of pictures that
            have the right size, too: the answer must not depend on how a picture was sent.
    """

    def prepare(images: tf.Tensor) -> tf.Tensor:
        shape = tf.shape(images, tf.int64)
        checks = [*_batch_check(shape[0]), *size_checks(shape[1], shape[2])]
        with tf.control_dependencies(checks):
            images = tf.identity(images)
        if crop == "inner":
            prepared = prepare_pixels(images, size, crop)
        else:
            # A picture of the right size would come out of it as it is, only later.
            is_ready = tf.reduce_all(shape[1:3] == size)
            prepared = tf.cond(is_ready, lambda: images, lambda: prepare_pixels(images, size, crop))
        return tf.ensure_shape(prepared, (None, size, size, 3))

    return prepare


def files_ready(size: int, crop: str) -> Prepare:
    """Whole picture files `[B]` -> `[B, size, size, 3]` uint8; they may differ in size.

    See `pixels_ready` for the arguments.
    """

    def prepare(contents: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(_batch_check(tf.size(contents, tf.int64))):
            contents = tf.identity(contents)
        return tf.map_fn(
            lambda content: prepare_content(content, size, crop),
            contents,
            parallel_iterations=_DECODED_AT_ONCE,
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )

    return prepare


def _batch_check(count: tf.Tensor) -> list[tf.Operation]:
    message = f"expected 1 to {LARGEST_BATCH} pictures in a request, not"
    return requiring((count >= 1) & (count <= LARGEST_BATCH), [message, count])
