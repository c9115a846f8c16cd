"""Erasure: takes a few linear directions out of the features; set in closed form, not trained.

Source: Belrose et al. 2023, "LEACE: Perfect linear concept erasure in closed form" (NeurIPS),
theorems 3.1 and 4.3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from sklearn.utils.extmath import randomized_svd

from tf_mtl_privacy.config import Config, RemovalConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.models.layers import first_layer, layer_seed
from tf_mtl_privacy.removal.base import (
    NOTHING,
    PUBLIC,
    TRAIN,
    Fitting,
    RemovalMethod,
    encode_rows,
    public_faces,
)

Array = np.ndarray[Any, Any]
# Named as part of the adapter: a backbone that was trained without it still fits.
NAME = "adapter_erasure"
# More rows make a refit slower, not much better: a class mean over some hundred rows suffices.
_MAX_ROWS = 6_000
# Directions of the cross-covariance below this share of the largest are rounding errors.
_MIN_SHARE = 1e-5
# Correlation with the label below which a direction is a rounding error, too.
_MIN_CORRELATION = 1e-6
# Minimum variance of a direction, as a share of the mean variance.
_MIN_VARIANCE = 1e-6


class ErasureMethod(RemovalMethod):
    """Erases the linearly readable part of the private label; refitted in the joint phase."""

    name = "erasure"

    def is_on(self, removal: RemovalConfig) -> bool:
        """See `RemovalMethod`."""
        return removal.erasure != "none"

    def fitted_to(self, removal: RemovalConfig) -> str:
        """See `RemovalMethod`."""
        if not self.is_on(removal):
            return NOTHING
        return TRAIN if removal.erasure_labels == "train" else PUBLIC

    def label_access(self, removal: RemovalConfig) -> str:
        """See `RemovalMethod`."""
        source = self.fitted_to(removal)
        if source == TRAIN:
            return "the erasure is fitted to the labels of training rows"
        if source == PUBLIC:
            return f"the erasure: {removal.region_rows:,} synthetic faces of no real person"
        return ""

    def record(self, removal: RemovalConfig, *, on: bool) -> Mapping[str, Any]:
        """Returns the kind of erasure and the labels that it is fitted to (None without one)."""
        kind, labels = (removal.erasure, removal.erasure_labels) if on else ("none", None)
        return {"erasure": kind, "erasure_labels": labels}

    def on_features(self, features: Any, removal: RemovalConfig, private_classes: int) -> Any:
        """Adds an `Erasure` of at most K - 1 directions for K private classes."""
        max_rank = max(private_classes - 1, 1)
        return Erasure(min(removal.erasure_rank or max_rank, max_rank), name=NAME)(features)

    def fitting(self, config: Config, dataset: Dataset, encoder: keras.Model) -> Fitting:
        """See `ErasureFitting`."""
        return ErasureFitting(config, dataset, encoder)


class ErasureFitting(Fitting):
    """Fits an encoder's erasure to its current features.

    Args:
        config: the run's configuration.
        dataset: its rows; their private labels are read only with `--erasure_labels=train`.
        encoder: has an erasure layer.
    """

    def __init__(self, config: Config, dataset: Dataset, encoder: keras.Model) -> None:
        super().__init__()
        self._config, self._own = config, dataset
        self._layer, self._encoder = first_layer(encoder, Erasure), before_erasure(encoder)
        self._seed = layer_seed(config.train.seed, "erasure")
        self._data: Dataset | None = None

    def refit(self) -> None:
        """Fits the erasure anew; keeps the information of task labels about the private label.

        Raises:
            UsageError: the public faces have other private classes than the data set.
        """
        data, rows = self._rows()
        parts = list(encode_rows(self._encoder, data, rows))
        features = np.concatenate(parts).reshape(len(rows), -1)
        labels = data.labels_of(rows)
        cells = np.stack([labels.business[task] for task in data.task_classes], axis=1)
        _, strata = np.unique(cells, axis=0, return_inverse=True)
        eraser = fit_eraser(
            features,
            labels.private,
            len(data.private_classes),
            strata=strata.reshape(-1),
            rank=self._config.removal.erasure_rank,
            components=self._config.removal.erasure_components,
            seed=self._seed,
        )
        assert self._layer is not None
        rank = eraser.right.shape[1]
        right, left = np.zeros(self._layer.right.shape), np.zeros(self._layer.left.shape)
        right[:, :rank], left[:rank] = eraser.right, eraser.left
        self._layer.set_weights([eraser.mean, right, left])

    def _rows(self) -> tuple[Dataset, Array]:
        """Returns the data, and the numbers of the labelled rows that are read."""
        if self._data is None:
            self._data = self._own
            if self._config.removal.erasure_labels == "public":
                classes = tuple(self._own.private_classes)
                self._data = public_faces(self._config, "erasure_labels", classes)
        rows = self._data.rows["train"]
        rows = rows[self._data.labels_of(rows).private >= 0]
        rows = np.random.default_rng(self._seed).permutation(rows)[:_MAX_ROWS]
        return self._data, np.sort(rows)


class Erasure(keras.layers.Layer):
    """`x - P(x - mean)` over all d features of an image, with P = right @ left of a small rank.

    Weights, none of them trainable: `mean` `[d]`, `right` `[d, rank]`, `left` `[rank, d]`. They
    start at 0, where nothing is changed.

    Args:
        rank: maximum number of directions that are taken out, >= 1.
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
        scores = keras.ops.matmul(flat - self.mean, self.right)
        return inputs - keras.ops.reshape(
            keras.ops.matmul(scores, self.left), keras.ops.shape(inputs)
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "rank": self.rank}


def before_erasure(encoder: keras.Model) -> keras.Model:
    """Returns the encoder up to its erasure, with shared weights: images -> features.

    Raises:
        ValueError: the encoder has no erasure.
    """
    layer = first_layer(encoder, Erasure)
    if layer is None:
        raise ValueError("Expected an encoder with an erasure layer")
    return keras.Model(encoder.inputs[0], layer.input, name="before_erasure")


class Eraser(NamedTuple):
    """`x - (x - mean) @ right @ left`: `[d]`, `[d, r]`, `[r, d]` float32."""

    mean: Array
    right: Array
    left: Array

    def __call__(self, rows: Array) -> Array:
        """Erases rows `[n, d]`."""
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
    """Fits LEACE: the smallest change of features after which no affine reader beats a constant.

    `P = W^-1 U U' W`, where W whitens the features and the columns of U span `W C`, C the
    cross-covariance of features and one-hot labels. On the given rows C is 0 afterwards, which is
    what keeps affine readers at a constant (theorem 3.1). That holds for any invertible W, as
    `P C = C`; W only makes the change the smallest one in squared length. With more features than
    rows no covariance can be inverted. W is therefore that of the leading `components` and one
    common variance for the rest (probabilistic PCA), which is exact if `components` is d and the
    rows are many.

    With `strata` only the label's information beyond them is erased: C is that of features and
    labels minus their mean within each stratum. Without them, erasing a label that determines
    another one (identity determines gender) would erase that one too.

    With `rank` only that many directions are erased, those with the largest covariance of whitened
    features and label. The rest of C is then not 0, so an affine reader still beats a constant.

    Args:
        rows: `[n, d]` float, n >= 2.
        labels: `[n]` int in [0, classes).
        classes: K, at least 2.
        strata: `[n]` int, any values; None for a single stratum.
        rank: maximum number of directions to erase, >= 0; 0 means all K - 1.
        components: maximum number of leading components, >= 0.
        seed: of the randomised decomposition.

    Returns:
        An eraser of rank at most K - 1, and at most `rank` if that is not 0.

    Raises:
        ValueError: shapes or labels do not fit, or a value is not finite.
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
        """Applies the covariance's square root (times a constant, which cancels) or its inverse."""
        return matrix + vectors @ ((roots**power - 1.0)[:, None] * (vectors.T @ matrix))

    basis, sizes, _ = np.linalg.svd(scaled(cross, -1.0), full_matrices=False)
    max_rank = min(rank or classes - 1, classes - 1)
    # `sizes / sqrt(rest)` measure covariances of whitened features and one-hot labels, at most 1.
    floor = max(_MIN_SHARE * sizes.max(initial=0), _MIN_CORRELATION * math.sqrt(rest))
    basis = basis[:, :max_rank][:, sizes[:max_rank] > floor]
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
    """Returns targets minus their mean over the rows of the same stratum."""
    _, number = np.unique(strata, return_inverse=True)
    count = np.bincount(number)
    means = np.zeros((len(count), targets.shape[1]))
    np.add.at(means, number, targets)
    return targets - (means / count[:, None])[number]


def _spectrum(centred: Array, components: int, seed: int) -> tuple[Array, Array, float]:
    """Returns leading directions `[d, q]`, their variances `[q]`, and the others' mean variance."""
    count, size = centred.shape
    limit = min(components, count - 1, size)
    total = float(np.einsum("nd,nd->", centred, centred, dtype=np.float64)) / count
    floor = max(_MIN_VARIANCE * total / size, float(np.finfo(np.float32).tiny))
    if limit == 0:
        return np.zeros((size, 0)), np.zeros(0), max(total / size, floor)
    if min(count, size) <= 2 * limit:
        _, values, vectors = np.linalg.svd(centred.astype(np.float64), full_matrices=False)
        values, vectors = values[:limit], vectors[:limit]
    else:
        _, values, vectors = randomized_svd(centred, limit, n_iter=2, random_state=seed)
    leading = np.maximum(values.astype(np.float64) ** 2 / count, floor)
    rest = (total - leading.sum()) / max(size - limit, 1)
    return vectors.T.astype(np.float64), leading, max(float(rest), floor)
