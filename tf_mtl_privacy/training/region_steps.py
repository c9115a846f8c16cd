"""One update of the mask and of the reader that it is trained against, as a `tf.function`.

The paper (section 3.1) says that regions are marked and masked, not how. Here the reader learns
the private label from covered pictures and the mask learns to leave it nothing, at a price for
every cell: min over masks of `H(uniform, reader(covered picture)) - log K + price * area`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.cover import WithoutAxis
from tf_mtl_privacy.models.mask import tried_cells
from tf_mtl_privacy.training import losses

# Of the reader's rows so many are not covered, or it would forget what it has to look for.
_BARE_SHARE = 4
# Log-odds beyond this are pulled back, or a cell that is certain would never change again.
_MOST_ODDS = 4.0
_PULL = 1e-3

RegionStep = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]


def make_region_step(
    finder: keras.Model,
    reader: keras.Model,
    cover: Callable[[Any], Any],
    optimizers: tuple[keras.optimizers.Optimizer, keras.optimizers.Optimizer],
    *,
    price: float,
    head_start: int,
    seed: int,
) -> RegionStep:
    """The step: pictures `[B, S, S, 3]` uint8, labels `[B]` int32 (-1 unknown), mask `[B]` bool.

    Both networks move at once, the reader down its cross-entropy and the mask down its own loss.
    All draws follow from `seed` and the number of updates taken, so that a run that was stopped
    goes on with the same ones.

    Args:
        finder: pictures -> log-odds (`models.mask.region_finder`).
        reader: covered pictures -> logits.
        cover: what paints cells over (`models.mask.cover_cells`).
        optimizers: of the mask and of the reader.
        price: nats for covering a whole picture.
        head_start: steps in which only the reader learns.
        seed: of the draws.
    """
    of_mask, of_reader = optimizers
    # An axis of colour that is taken away was found in closed form and stays.
    moving = [layer for layer in finder.layers if not isinstance(layer, WithoutAxis)]
    finding = [weight for layer in moving for weight in layer.weights]
    reading = reader.trainable_variables
    of_mask.build(finding)
    of_reader.build(reading)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(image: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        picture, known = to_float(image), tf.logical_and(mask, labels >= 0)
        taken = tf.cast(of_reader.iterations, tf.int32)
        playing = taken >= head_start
        bare = tf.cast(tf.range(tf.shape(labels)[0]) % _BARE_SHARE == 0, tf.float32)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in (*finding, *reading)])
            odds = finder(picture)
            cells = tried_cells(odds, tf.stack([seed, taken]))
            # Before the game all rows are bare; in it every fourth.
            shown = tf.where(playing, 1.0 - bare, tf.zeros_like(bare))
            cells *= shown[:, tf.newaxis, tf.newaxis, tf.newaxis]
            logits = reader(cover([picture, cells]), training=True)
            reads = losses.masked_mean(losses.cross_entropy(logits, labels), known)
            covered = tf.logical_and(mask, shown > 0.0)
            leaves = losses.masked_mean(losses.confusion(logits), covered)
            leaves -= math.log(logits.shape[-1])
            area = losses.masked_mean(tf.reduce_mean(tf.sigmoid(odds), [1, 2, 3]), mask)
            beyond = tf.nn.relu(tf.abs(odds) - _MOST_ODDS)
            loss = leaves + price * area + _PULL * tf.reduce_mean(tf.square(beyond))
        of_reader.apply(tape.gradient(reads, reading), reading)
        share = tf.cast(playing, tf.float32)
        moves = tape.gradient(loss, finding)
        tf.cond(playing, lambda: _apply(of_mask, moves, finding), lambda: tf.constant(False))
        return {"reader_loss": reads, "mask_confusion": share * leaves, "mask_area": area}

    return step


def _apply(optimizer: keras.optimizers.Optimizer, gradients: list, variables: list) -> tf.Tensor:
    optimizer.apply(gradients, variables)
    return tf.constant(True)
