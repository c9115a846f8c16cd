"""Losses as pure functions of tensors: one unreduced float32 value per example.

For a label of -1 (unknown) the loss is exactly 0, and so is its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import tensorflow as tf

PSNR_CAP_DB = 100.0

Objective = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


def cross_entropy(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`-log p_y` with `p = softmax(logits)`; in [0, inf) nats (paper, section 3.2, step 2).

    Args:
        logits: `[B, K]` float32.
        labels: `[B]` int32, the class or -1.

    Returns:
        `[B]` float32, 0 where the label is -1.
    """
    known, labels = _known(labels)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return _only(known, loss)


def business_loss(logits: Mapping[str, tf.Tensor], labels: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """`sum_t CE(logits_t, labels_t)` over the tasks of `logits`; in [0, inf) nats.

    The paper's B_Loss (section 3.2, step 2), summed over tasks.

    Args:
        logits: task name -> `[B, classes]` float32, at least one task.
        labels: task name -> `[B]` int32, the class or -1.

    Returns:
        `[B]` float32.
    """
    return tf.add_n([cross_entropy(logits[task], labels[task]) for task in logits])


def paper_adversarial(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`-sum_k y_k log p_k - sum_k (1 - y_k) log(1 - p_k)`; in [0, inf) nats.

    The paper's Adv_Loss (section 3.2, step 3.1) with one-hot `y`: cross-entropy plus the
    one-vs-rest term. `log(1 - p_k)` is the log of the other classes' share,
    `logsumexp_{j != k} z_j - logsumexp_j z_j`, which stays exact where `1 - p_k` rounds to 0.

    Args:
        logits: `[B, K]` float32, K >= 2.
        labels: `[B]` int32, the class or -1.

    Returns:
        `[B]` float32, 0 where the label is -1.
    """
    logits = tf.convert_to_tensor(logits)
    known, safe = _known(labels)
    wrong = 1.0 - tf.one_hot(safe, logits.shape[-1], dtype=logits.dtype)
    rest = -tf.reduce_sum(wrong * _log_others(logits), axis=-1)
    return cross_entropy(logits, labels) + _only(known, rest)


def bounded_adversarial(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """`min(paper_adversarial, log K + (K - 1) log(K / (K - 1)))`; from 0 to that bound, in nats.

    The bound is the paper's Adv_Loss of a uniform output. An example that the discriminator reads
    at chance level or below gives no gradient, so that it is not pushed further.

    Args:
        logits: `[B, K]` float32, K >= 2.
        labels: `[B]` int32, the class or -1.

    Returns:
        `[B]` float32, 0 where the label is -1.
    """
    classes = int(logits.shape[-1])
    uniform = math.log(classes) + (classes - 1) * math.log(classes / (classes - 1))
    return tf.minimum(paper_adversarial(logits, labels), uniform)


def confusion(logits: tf.Tensor) -> tf.Tensor:
    """`-(1/K) sum_k log p_k`: cross-entropy from the uniform distribution; in [log K, inf) nats.

    At its minimum, log K, the discriminator cannot tell the classes apart (Roy and Boddeti
    2019, "Mitigating Information Leakage in Image Representations: A Maximum Entropy Approach",
    MaxEnt-ARL).

    Args:
        logits: `[B, K]` float32.

    Returns:
        `[B]` float32.
    """
    return -tf.reduce_mean(tf.nn.log_softmax(logits), axis=-1)


def entropy(logits: tf.Tensor) -> tf.Tensor:
    """`-sum_k p_k log p_k` with `p = softmax(logits)`; in [0, log K] nats.

    Args:
        logits: `[B, K]` float32.

    Returns:
        `[B]` float32.
    """
    return -tf.reduce_sum(tf.nn.softmax(logits) * tf.nn.log_softmax(logits), axis=-1)


def squared_error(restored: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """Mean over pixels and channels of `(restored - image)^2`; in [0, 1] for images in [0, 1].

    The MSE of the paper's R_Loss (section 3.2, step 2).

    Args:
        restored: `[B, H, W, 3]` float32 in [0, 1].
        image: `[B, H, W, 3]` float32 in [0, 1].

    Returns:
        `[B]` float32.
    """
    return tf.reduce_mean(tf.square(restored - image), axis=[1, 2, 3])


def psnr(restored: tf.Tensor, image: tf.Tensor) -> tf.Tensor:
    """`-10 log10(MSE)` of each image, in dB, for images in [0, 1]; in [0, 100].

    Peak 1. Capped at 100 dB (MSE 1e-10), so that identical images give 100 and not infinity.

    Args:
        restored: `[B, H, W, 3]` float32 in [0, 1].
        image: `[B, H, W, 3]` float32 in [0, 1].

    Returns:
        `[B]` float32.
    """
    floor = 10.0 ** (-PSNR_CAP_DB / 10.0)
    error = tf.maximum(squared_error(restored, image), floor)
    return tf.math.log(error) * (-10.0 / math.log(10.0))


def masked_mean(per_example: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean over the real rows; 0 for a batch without any.

    Masked rows add exactly 0, even if they are not finite, and get a gradient of 0.

    Args:
        per_example: `[B]` float32.
        mask: `[B]` bool, False for padding.

    Returns:
        Scalar float32.
    """
    total = tf.reduce_sum(_only(mask, per_example))
    return total / tf.maximum(tf.reduce_sum(tf.cast(mask, per_example.dtype)), 1.0)


def adversarial_objective(name: str) -> Objective:
    """Returns the encoder's objective against the discriminator, by its name in the configuration.

    'paper' is `-Adv_Loss` (section 3.2, step 3.2), not bounded from below; 'paper_bounded' is
    `-bounded_adversarial`; 'confusion' is `confusion` and 'entropy' is `-entropy`, which read no
    label and also give a value for rows without one. A new one also needs its line in the choices
    of `LossConfig.objective`, which tell whether it reads labels.

    Returns:
        A function of logits `[B, K]` and labels `[B]` that gives `[B]`, without the weight beta.

    Raises:
        KeyError: no objective of that name.
    """
    return _OBJECTIVES[name]


_OBJECTIVES: dict[str, Objective] = {
    "paper": lambda logits, labels: -paper_adversarial(logits, labels),
    "paper_bounded": lambda logits, labels: -bounded_adversarial(logits, labels),
    "confusion": lambda logits, labels: confusion(logits),
    "entropy": lambda logits, labels: -entropy(logits),
}


def _known(labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns a mask of the labelled rows, and labels with class 0 in place of -1."""
    known = labels >= 0
    return known, tf.where(known, labels, tf.zeros_like(labels))


def _only(rows: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    return tf.where(rows, values, tf.zeros_like(values))


def _log_others(logits: tf.Tensor) -> tf.Tensor:
    """`log(1 - softmax(logits))`, `[B, K]`.

    Only the likeliest class can have a share near 1: its `1 - p` is summed from the others'
    logits. For the rest, with shares of at most a half, log1p is exact.
    """
    logits -= tf.stop_gradient(tf.reduce_max(logits, axis=-1, keepdims=True))
    top = tf.one_hot(tf.argmax(logits, axis=-1), logits.shape[-1], on_value=True, off_value=False)
    # A finite stand-in for minus infinity keeps the gradient finite; exp of it is 0.
    others = tf.reduce_logsumexp(tf.where(top, logits.dtype.min, logits), axis=-1, keepdims=True)
    log_top = others - tf.reduce_logsumexp(logits, axis=-1, keepdims=True)
    return tf.where(top, log_top, tf.math.log1p(-_only(~top, tf.nn.softmax(logits))))
