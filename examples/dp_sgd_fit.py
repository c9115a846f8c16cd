"""Train with DPSGD in `model.fit`, by a custom `train_step`: `python examples/dp_sgd_fit.py`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from digits import digits

from tf_mtl_privacy.privacy import DPSGD

images, labels, test_images, test_labels = digits()
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")


class Private(keras.Model):
    """A model that `fit` trains with its private optimizer; `compile` takes none."""

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """Makes one private update."""
        x, y = data
        losses = self.private.minimize(x, lambda outputs: loss(y, outputs))
        return {"loss": tf.reduce_mean(losses)}


inputs = keras.Input((64,))
hidden = keras.layers.Dense(64, "tanh")(inputs)
model = Private(inputs, keras.layers.Dense(10)(hidden))
model.private = DPSGD(
    model, learning_rate=1.0, momentum=0.5, l2_norm_clip=1.0, noise_multiplier=1.0
)
model.compile(jit_compile=False)
model.fit(images, labels, batch_size=100, epochs=15, verbose=0)
accuracy = np.mean(np.argmax(model(test_images), axis=1) == test_labels)
print(f"accuracy {accuracy:.3f}, {model.private.iterations} updates")
