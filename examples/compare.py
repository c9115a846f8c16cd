"""Compare the backends of DPAdam with plain Adam and tensorflow-privacy: accuracy and time.

`python examples/compare.py [--epochs=N]` trains a small classifier on scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import os
import time
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from digits import TRAIN, digits

from tf_mtl_privacy.privacy import (
    DPAdam,
    tfp,  # makes tensorflow_privacy importable
)

assert tfp
from tensorflow_privacy.privacy.optimizers import dp_optimizer_keras  # noqa: E402

BATCH, RATE, CLIP, NOISE = 128, 2e-3, 1.0, 1.0
WAYS = ("plain Adam", "tensorflow-privacy", "ghost", "vectorized", "per_example")


def network() -> keras.Sequential:
    """Returns a classifier with fixed initial weights."""
    first = keras.initializers.HeNormal(seed=1)
    last = keras.initializers.GlorotUniform(seed=2)
    return keras.Sequential(
        [
            keras.Input((64,)),
            keras.layers.Dense(128, "relu", kernel_initializer=first),
            keras.layers.Dense(10, kernel_initializer=last),
        ]
    )


def stepper(way: str, model: keras.Sequential) -> Any:
    """Returns (x, y) -> None, one traced update of a model by one of `WAYS`."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
    if way == "plain Adam":
        adam = keras.optimizers.Adam(RATE)
        adam.build(model.trainable_variables)

        def plain(x: tf.Tensor, y: tf.Tensor) -> None:
            with tf.GradientTape() as tape:
                value = tf.reduce_mean(loss(y, model(x, training=True)))
            adam.apply(tape.gradient(value, model.trainable_variables), model.trainable_variables)

        return tf.function(plain)
    if way == "tensorflow-privacy":
        generic = dp_optimizer_keras.make_keras_generic_optimizer_class(
            tf_keras.optimizers.legacy.Adam
        )
        kind = dp_optimizer_keras.make_gaussian_query_optimizer_class(generic)
        stock = kind(l2_norm_clip=CLIP, noise_multiplier=NOISE, learning_rate=RATE)
        raw = [variable.value for variable in model.trainable_variables]

        def library(x: tf.Tensor, y: tf.Tensor) -> None:
            stock.minimize(lambda: loss(y, model(x, training=True)), raw)

        return tf.function(library)
    ours = DPAdam(
        model, learning_rate=RATE, l2_norm_clip=CLIP, noise_multiplier=NOISE, clipping=way
    )

    def private(x: tf.Tensor, y: tf.Tensor) -> None:
        ours.minimize(x, lambda logits: loss(y, logits))

    return tf.function(private)


def train(way: str, epochs: int) -> dict[str, float]:
    """Returns accuracy on the test set, and the shortest time of a step in ms."""
    images, labels, test_images, test_labels = digits()
    model, generator = network(), np.random.default_rng(1)
    step, times = stepper(way, model), []
    for _ in range(epochs):
        order = generator.permutation(TRAIN)
        for start in range(0, TRAIN - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            x, y = tf.constant(images[rows]), tf.constant(labels[rows])
            begun = time.perf_counter()
            step(x, y)
            times.append(time.perf_counter() - begun)
    predicted = np.argmax(model(test_images), axis=1)
    return {"accuracy": float(np.mean(predicted == test_labels)), "ms": 1000 * min(times)}


def main() -> None:
    """Prints one row for each of `WAYS`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=20)
    options = parser.parse_args()
    print(f"digits, 64-128-10, batch {BATCH}, {options.epochs} epochs, clip {CLIP}, noise {NOISE}")
    for way in WAYS:
        row = train(way, options.epochs)
        print(f"{way:<20} accuracy {100 * row['accuracy']:5.1f} %   {row['ms']:7.2f} ms a step")


if __name__ == "__main__":
    main()
