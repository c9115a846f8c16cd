"""Train with DPAdam on Poisson batches, with noise for epsilon 3: `python examples/dp_adam.py`."""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf
from digits import digits

from tf_mtl_privacy.privacy import DPAdam
from tf_mtl_privacy.privacy.accounting.calibration import noise_for_epsilon
from tf_mtl_privacy.privacy.accounting.epsilon import epsilon
from tf_mtl_privacy.privacy.accounting.events import MechanismRun
from tf_mtl_privacy.privacy.batch_selection import PoissonBatches
from tf_mtl_privacy.privacy.keys import secret_key

EPOCHS, BATCH, TARGET, DELTA = 20, 128, 3.0, 1e-5
images, labels, test_images, test_labels = digits()

# Each row is in each batch independently; the accounting assumes this.
batches = PoissonBatches(np.arange(len(images)), BATCH / len(images), key=secret_key())
steps = EPOCHS * batches.steps_per_epoch
noise = noise_for_epsilon(TARGET, DELTA, BATCH / len(images), steps)

layers = [keras.Input((64,)), keras.layers.Dense(128, "relu"), keras.layers.Dense(10)]
model = keras.Sequential(layers)
optimizer = DPAdam(
    model, learning_rate=2e-3, l2_norm_clip=1.0, noise_multiplier=noise, expected_batch_size=BATCH
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
step = tf.function(lambda x, y, mask: optimizer.minimize(x, lambda z: loss(y, z), mask))
for number in range(steps):
    # Places of a batch that are not filled have row -1 and a mask of False.
    rows, mask = batches.batch(*divmod(number, batches.steps_per_epoch))
    step(images[rows], labels[rows], mask)

accuracy = np.mean(np.argmax(model(test_images), axis=1) == test_labels)
run = MechanismRun(batches.mechanism(noise), optimizer.iterations)
print(f"accuracy {accuracy:.3f}, noise multiplier {noise:.3f}, {optimizer.iterations} updates")
print(f"epsilon {epsilon([run], DELTA):.3f} at delta {DELTA:g}, for adding or removing one image")
