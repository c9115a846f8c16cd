"""Small networks and batches for the tests of private training."""

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.privacy import DPSGD

LAYERS = keras.layers
BACKENDS = ("ghost", "vectorized", "per_example")


def initializer(seed):
    return keras.initializers.RandomNormal(stddev=0.5, seed=seed)


def dense_network(sizes=(3, 2), activation="tanh"):
    x = inputs = keras.Input((sizes[0],))
    for number, units in enumerate(sizes[1:]):
        last = number == len(sizes) - 2
        x = LAYERS.Dense(
            units,
            activation=None if last else activation,
            kernel_initializer=initializer(number),
            bias_initializer=initializer(number + 100),
        )(x)
    return keras.Model(inputs, x)


def stack(*layers, shape=(4,), dtype="float32"):
    x = inputs = keras.Input(shape, dtype=dtype)
    for layer in layers:
        x = layer(x)
    return keras.Model(inputs, x)


def rows(count, shape, classes=2, seed=0, scale=2.0):
    generator = np.random.default_rng(seed)
    x = (scale * generator.normal(size=(count, *shape))).astype(np.float32)
    return x, generator.integers(0, classes, count).astype(np.int32)


def cross_entropy(labels):
    return lambda logits: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits
    )


def values(model):
    return [v.numpy().copy() for v in model.trainable_variables]


def sgd_update(model, x, loss, clip, mask=None, traced=False, **options):
    """Returns the clipped mean gradient, from one step of size 1 without noise, which it undoes.

    With `traced` the step runs in a graph, as in training.
    """
    before = values(model)
    options = {"noise_multiplier": 0.0, "allow_zero_noise": True} | options
    optimizer = DPSGD(model, learning_rate=1.0, l2_norm_clip=clip, **options)
    minimize = optimizer.minimize
    if traced:
        minimize = tf.function(minimize, autograph=False)
    losses = minimize(x, loss, mask)
    after = values(model)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        variable.assign(value)
    return [old - new for old, new in zip(before, after, strict=True)], losses.numpy()


def loop_over_rows(model, x, loss, clip, mask=None):
    """Returns the clipped mean gradient, row by row with a plain tape, clipped in NumPy.

    `loss` maps outputs to losses of all rows, or is an array of labels for the cross entropy.
    """
    parts = tf.nest.flatten(x)
    count, total = len(parts[0]), 0.0
    for row in range(count):
        if mask is not None and not mask[row]:
            continue
        inputs = tf.nest.map_structure(lambda part, row=row: part[row : row + 1], x)
        with tf.GradientTape() as tape:
            outputs = model(inputs, training=True)
            losses = (
                loss(outputs) if callable(loss) else cross_entropy(loss[row : row + 1])(outputs)
            )
        raw = [v.value for v in model.trainable_variables]
        gradients = tape.gradient(losses, raw, unconnected_gradients="zero")
        gradient = flat([tf.convert_to_tensor(g).numpy() for g in gradients]).astype(np.float64)
        total += gradient / max(1.0, np.linalg.norm(gradient) / clip)
    return total / count


def flat(arrays):
    return np.concatenate([np.ravel(a) for a in arrays])
