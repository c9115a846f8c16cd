"""Networks of a run, and their private updates worked out one row at a time in NumPy."""

import dataclasses

import numpy as np
import tensorflow as tf

from tests.training.test_steps import TASKS, batch
from tests.training.tiny import tiny_config
from tf_mtl_privacy.models.backbone import split_encoder
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.privacy import DPSGD
from tf_mtl_privacy.training import steps
from tf_mtl_privacy.training.batches import as_tensors

ROWS, BETA, SIZE = 6, 0.7, 5.0
# Losses whose gradients each network gets.
FELT = {
    "adapter": ("business", "objective", "restoration"),
    "business": ("business",),
    "discriminator": ("private",),
    "restorer": ("restoration",),
}
LOSS = dataclasses.replace(tiny_config().loss, reconstruction_weight=20.0)


class Networks:
    """Networks of a run, with the backbone's features of a batch in which labels are missing."""

    def __init__(self):
        bundle = build_bundle(tiny_config(), TASKS, 8)
        self.business, self.discriminator = bundle.business, bundle.discriminator
        self.restorer = bundle.restorer
        backbone, self.adapter = split_encoder(bundle.encoder)
        self.encoder = steps.trained_encoder(self.adapter, self.business, LOSS.alpha)
        data = batch(ROWS)
        data.private[1] = data.business["age"][2] = -1
        self.data = data
        self.cached = backbone(data.image / np.float32(255), training=False).numpy()

    @property
    def models(self):
        return {n: getattr(self, n) for n in ("adapter", "business", "discriminator", "restorer")}

    def update(self, model, clip, make, *, cached=None, data=None, clipping="ghost", beta=()):
        """Returns the change of each network by one step of size 1, which it then undoes."""
        optimizer = DPSGD(
            model,
            learning_rate=1.0,
            l2_norm_clip=clip,
            noise_multiplier=0.0,
            allow_zero_noise=True,
            expected_batch_size=SIZE,
            clipping=clipping,
        )
        cached = self.cached if cached is None else cached
        before = {name: [v.numpy() for v in m.variables] for name, m in self.models.items()}
        step = make(optimizer)
        metrics = step(tf.constant(cached), as_tensors(data or self.data), *beta)
        moved = {}
        for name, network in self.models.items():
            moved[name] = [
                old - v.numpy() for old, v in zip(before[name], network.variables, strict=True)
            ]
            for old, variable in zip(before[name], network.variables, strict=True):
                variable.assign(old)
        return moved, {name: float(value) for name, value in metrics.items()}


# Independent implementations of the losses of one row: logits [1, K], label an int.
def cross_entropy(logits, label):
    return tf.reduce_logsumexp(logits) - logits[0, label] if label >= 0 else 0.0 * logits[0, 0]


def objective(name, logits, label):
    if name == "confusion":
        return -tf.reduce_mean(tf.math.log(tf.nn.softmax(logits)))
    if label < 0:
        return 0.0 * logits[0, 0]
    shares = tf.nn.softmax(logits)[0]
    others = [tf.math.log(1.0 - shares[k]) for k in range(len(shares)) if k != label]
    return tf.math.log(shares[label]) + tf.add_n(others)


def row_gradients(networks, row, name="confusion"):
    """{(loss, network): gradient of one row}, of each loss by itself."""
    x, data = tf.constant(networks.cached[row : row + 1]), networks.data
    with tf.GradientTape(persistent=True) as tape:
        features = networks.adapter(x, training=False)
        logits = networks.business(features)
        business = tf.add_n([cross_entropy(logits[t], data.business[t][row]) for t in TASKS])
        private = networks.discriminator(features)
        values = {
            "business": business,
            "objective": objective(name, private, data.private[row]),
            "private": cross_entropy(private, data.private[row]),
            "restoration": LOSS.reconstruction_weight
            * tf.reduce_mean(
                (networks.restorer(features) - data.image[row] / np.float32(255)) ** 2
            ),
        }
    return {
        (loss, name): [
            np.array(g)
            for g in tape.gradient(
                values[loss],
                [variable.value for variable in model.trainable_variables],
                unconnected_gradients="zero",
            )
        ]
        for name, model in networks.models.items()
        for loss in FELT[name]
    }


def combined(gradients, weights):
    """One row's gradient: for each network the weighted sum of its losses' gradients."""
    return {
        network: [
            sum(weight * part for weight, part in zip(parts.values(), column, strict=True))
            for column in zip(*[gradients[loss, network] for loss in parts], strict=True)
        ]
        for network, parts in weights.items()
    }


def norm(row):
    return np.sqrt(sum((part.astype(np.float64) ** 2).sum() for p in row.values() for part in p))


def clipped_mean(rows, clip):
    """Abadi et al. 2016, algorithm 1, without noise."""
    return {
        name: [
            sum(row[name][k] * min(1.0, clip / max(norm(row), 1e-30)) for row in rows) / SIZE
            for k in range(len(rows[0][name]))
        ]
        for name in rows[0]
    }


def middle_clip(rows):
    """Returns a clip norm above the norms of some rows and below others."""
    norms = sorted(map(norm, rows))
    clip = (norms[len(norms) // 2 - 1] + norms[len(norms) // 2]) / 2
    assert norms[0] < 0.97 * clip < 1.03 * clip < norms[-1]
    return float(clip)
