"""A layer that takes a few linear directions out of the features; set in closed form, not trained.

Source: Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form", theorem 4.3;
the matrices are computed in training/erasure.py.

What of features must go, so that no linear reader finds a label in them; in closed form.

Source: Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form" (NeurIPS),
theorems 3.1 and 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from sklearn.utils.extmath import randomized_svd

# Part of the adapter: a backbone that was trained without it still fits.
NAME = "adapter_erasure"


class Erasure(keras.layers.Layer):
    """`x - P(x - mean)` over all numbers of an image, with P = right @ left of a small rank.

    Weights, none of them trainable: `mean` `[d]`, `right` `[d, rank]`, `left` `[rank, d]`, d the
    numbers of an image. They start at 0, where nothing is changed.

    Args:
        rank: directions that are taken out at most, >= 1.
    """

    def __init__(self, rank: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rank = rank

    def build(self, input_shape: Sequence[int | None]) -> None:
        """See the class."""
        size = math.prod(int(length) for length in input_shape[1:] if length is not None)
        shapes = {"mean": (size,), "right": (size, self.rank), "left": (self.rank, size)}
        self.mean, self.right, self.left = (
            self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)
            for name, shape in shapes.items()
        )

    def call(self, inputs: Any) -> Any:
        """See the class."""
        flat = keras.ops.reshape(inputs, (-1, self.mean.shape[0]))
        found = keras.ops.matmul(flat - self.mean, self.right)
        return inputs - keras.ops.reshape(
            keras.ops.matmul(found, self.left), keras.ops.shape(inputs)
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "rank": self.rank}


def erasure_of(encoder: keras.Model) -> Erasure | None:
    """The encoder's layer, or None where it has none."""
    return next((layer for layer in encoder.layers if isinstance(layer, Erasure)), None)


def before_erasure(encoder: keras.Model) -> keras.Model:
    """The encoder up to what is erased, with shared weights: pictures -> features.

    Raises:
        ValueError: the encoder erases nothing.
    """
    layer = erasure_of(encoder)
    if layer is None:
        raise ValueError("Expected an encoder with an erasure layer")
    return keras.Model(encoder.inputs[0], layer.input, name="before_erasure")


Array = np.ndarray[Any, Any]
# Directions of the cross-covariance below this share of the largest are rounding.
_LEAST_SHARE = 1e-5
# Least variance of a direction, as a share of the mean one.
_LEAST_VARIANCE = 1e-6


class Eraser(NamedTuple):
    """`x - (x - mean) @ right @ left`: `[d]`, `[d, r]`, `[r, d]` float32."""

    mean: Array
    right: Array
    left: Array

    def __call__(self, rows: Array) -> Array:
        """`[n, d]` -> `[n, d]`."""
        return rows - (rows - self.mean) @ self.right @ self.left


def fit_eraser(
    rows: Array,
    labels: Array,
    classes: int,
    *,
    strata: Array | None = None,
    rank: int = 0,
    components: int = 128,
    seed: int = 0,
) -> Eraser:
    """LEACE: the least change of features after which no affine reader of a label beats a constant.

    `P = W^-1 U U' W`, where W whitens the features and the columns of U span `W C`, C the
    cross-covariance of features and one-hot labels. On the rows given, C is 0 afterwards,
    which is what keeps affine readers at a constant (theorem 3.1). That much holds for any
    invertible W, as `P C = C`; that the change is the least one in squared length is what W is
    needed for. With more numbers than rows no covariance can be inverted, so W is that of the
    leading `components` and one common variance for the rest (probabilistic PCA), which is exact
    where `components` is d and the rows are many.

    With `strata` only what the label says beyond them is erased: C is that of features and labels
    less their mean within each stratum. A label that determines another one (who it is says the
    gender) would otherwise take it along.

    With `rank` only so many directions go, those in which the whitened features say most of the
    label; what is left of C is then not 0, and an affine reader finds something.

    Args:
        rows: `[n, d]` float, n >= 2.
        labels: `[n]` int in [0, classes).
        classes: K, at least 2.
        strata: `[n]` int, any numbers; None for a single stratum.
        rank: most directions that go, >= 0; 0 means all K - 1 of them.
        components: most leading components, >= 0.
        seed: of the randomised decomposition.

    Returns:
        an eraser of rank at most K - 1, and at most `rank` where that is not 0.

    Raises:
        ValueError: shapes or labels that do not fit, or values that are not finite.
    """
    _check(rows, labels, classes, strata)
    mean = rows.mean(axis=0, dtype=np.float64)
    centred = (rows - mean).astype(np.float32)
    targets = np.eye(classes)[labels]
    targets = _within(targets, np.zeros(len(rows), int) if strata is None else strata)
    cross = (centred.T @ targets.astype(np.float32)).astype(np.float64) / len(rows)
    vectors, leading, rest = _spectrum(centred, components, seed)
    roots = np.sqrt(leading) / np.sqrt(rest)

    def scaled(matrix: Array, power: float) -> Array:
        """The covariance's square root (times a constant, which cancels) to +1 or -1."""
        return matrix + vectors @ ((roots**power - 1.0)[:, None] * (vectors.T @ matrix))

    basis, sizes, _ = np.linalg.svd(scaled(cross, -1.0), full_matrices=False)
    most = min(rank or classes - 1, classes - 1)
    basis = basis[:, :most][:, sizes[:most] > _LEAST_SHARE * sizes.max(initial=0)]
    right, left = scaled(basis, -1.0), scaled(basis, 1.0).T
    return Eraser(*(part.astype(np.float32) for part in (mean, right, left)))


def _check(rows: Array, labels: Array, classes: int, strata: Array | None) -> None:
    if rows.ndim != 2 or len(rows) < 2 or labels.shape != (len(rows),):
        raise ValueError(f"Expected rows={rows.shape} [n >= 2, d] and labels={labels.shape} [n]")
    if strata is not None and strata.shape != labels.shape:
        raise ValueError(f"Expected strata={strata.shape} of the shape of labels={labels.shape}")
    if classes < 2 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"Expected labels in [0, classes={classes}), classes >= 2")
    if not np.isfinite(rows).all():
        raise ValueError("Expected rows with finite values")


def _within(targets: Array, strata: Array) -> Array:
    """Targets less their mean over the rows of the same stratum."""
    _, number = np.unique(strata, return_inverse=True)
    count = np.bincount(number)
    means = np.zeros((len(count), targets.shape[1]))
    np.add.at(means, number, targets)
    return targets - (means / count[:, None])[number]


def _spectrum(centred: Array, components: int, seed: int) -> tuple[Array, Array, float]:
    """Leading directions `[d, q]`, their variances `[q]`, and the mean variance of all others."""
    count, size = centred.shape
    most = min(components, count - 1, size)
    total = float(np.einsum("nd,nd->", centred, centred, dtype=np.float64)) / count
    floor = max(_LEAST_VARIANCE * total / size, float(np.finfo(np.float32).tiny))
    if most == 0:
        return np.zeros((size, 0)), np.zeros(0), max(total / size, floor)
    if min(count, size) <= 2 * most:
        _, values, vectors = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
        values, vectors = values[:most], vectors[:most]
    else:
        _, values, vectors = randomized_svd(centred, most, n_iter=2, random_state=seed)
    leading = np.maximum(values.astype(np.float64) ** 2 / count, floor)
    rest = (total - leading.sum()) / max(size - most, 1)
    return vectors.T.astype(np.float64), leading, max(float(rest), floor)
