"""Measures a step of a TensorFlow backend: `tensorflow_step.py MODEL BATCH BACKEND SECONDS`.

Prints one JSON row. The backend `matmul` measures the machine's limit, in GFLOP/s of a large matrix
product.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import measure
import tensorflow as tf
import tf_keras

from tf_mtl_privacy.models.heads import build_discriminator
from tf_mtl_privacy.privacy import DPAdam
from tf_mtl_privacy.privacy import tfp as tfp_door  # opens tensorflow_privacy

assert tfp_door
from tensorflow_privacy.privacy.optimizers import (  # noqa: E402
    dp_optimizer_keras,
    dp_optimizer_keras_vectorized,
)

_STOCK = {
    "tfp_stock": dp_optimizer_keras.make_keras_optimizer_class,
    "tfp_vectorized": dp_optimizer_keras_vectorized.make_vectorized_keras_optimizer_class,
}


def network(name: str) -> keras.Model:
    sizes = measure.MODELS[name]
    if sizes is None:
        width = 2 * measure.CONV_CHANNELS
        return build_discriminator(
            measure.CONV_INPUT, measure.CONV_CLASSES, shape="conv", units=width
        )
    x = inputs = keras.Input((sizes[0],))
    for units in sizes[1:-1]:
        x = keras.layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(sizes[-1])(x))


def make_step(backend: str, model: keras.Model, batch: int) -> Callable[..., tf.Tensor]:
    """(x, y) -> losses; one update."""

    def losses(logits: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits)

    if backend == "nonprivate":
        variables = model.trainable_variables
        adam = keras.optimizers.Adam(1e-3)
        adam.build(variables)

        def plain(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(losses(model(x, training=True), y))
            adam.apply(tape.gradient(loss, variables), variables)
            return loss

        return tf.function(plain)
    if backend in _STOCK:
        kind = _STOCK[backend](tf_keras.optimizers.legacy.Adam)
        stock = kind(
            l2_norm_clip=1.0, noise_multiplier=1.0, num_microbatches=batch, learning_rate=1e-3
        )
        raw = [variable.value for variable in model.trainable_variables]

        def library(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
            values = []

            def loss() -> tf.Tensor:
                values.append(losses(model(x, training=True), y))
                return values[0]

            stock.minimize(loss, raw)
            return values[0]

        return tf.function(library)
    ours = DPAdam(model, l2_norm_clip=1.0, noise_multiplier=1.0, clipping=backend)

    def private(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return ours.minimize(x, lambda logits: losses(logits, y))

    return tf.function(private)


def matmul_limit(seconds: float) -> dict[str, float]:
    size = 1024
    a = tf.random.normal([size, size])
    product = tf.function(lambda: tf.matmul(a, a))
    return {"gflops": 2 * size**3 / measure.measure(product, seconds)["ms"] / 1e6}


def main(name: str, batch: int, backend: str, seconds: float) -> None:
    if backend == "matmul":
        print(json.dumps(matmul_limit(seconds)))
        return
    model = network(name)
    x = tf.random.normal([batch, *model.input_shape[1:]])
    y = tf.random.uniform([batch], 0, model.output_shape[1], tf.int32)
    step = make_step(backend, model, batch)
    print(json.dumps(measure.measure(lambda: step(x, y), seconds)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
