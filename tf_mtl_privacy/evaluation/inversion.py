"""Feature inversion: an attacker's decoder restores pictures from their features.

The caller chooses the attacker's pictures and reports whose they are. The decoder starts as the
best linear map from each cell's features to the pixels under it (ridge regression, Hoerl and
Kennard 1970), in closed form, so that pixels which the features carry unchanged are restored
without training. Convolutions over cells, which start at zero, then learn the rest. Retrieval asks
if the restored picture is recognised: if its nearest neighbour in a gallery is the right one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.evaluation.schema import ImageQuality, InversionFigures
from tf_mtl_privacy.evaluation.utility import restoration
from tf_mtl_privacy.models.layers import Layers, from_cells, to_cells
from tf_mtl_privacy.models.losses import psnr
from tf_mtl_privacy.types import Array

_COMPONENTS = 64
UNKNOWN = -1
_BATCH = 64
# Ridge penalty over the mean variance of a (standardised) feature.
_RIDGE = 1e-3
_MAX_CELLS = 200_000


@dataclasses.dataclass(frozen=True)
class DecoderBudget:
    """Size and training time of a decoder.

    Attributes:
        width: channels of the convolutions.
        blocks: number of residual blocks of two convolutions.
        epochs: epochs over the attacker's rows.
        rate: Adam's largest learning rate; it follows a cosine decay.
    """

    width: int
    blocks: int
    epochs: int
    rate: float


@dataclasses.dataclass(frozen=True)
class InversionBudget:
    """Numbers of pictures, and the decoder.

    Attributes:
        rows: largest number of training rows.
        tests: largest number of restored and scored pictures.
        decoder: budget of the decoder.
    """

    rows: int
    tests: int
    decoder: DecoderBudget


INVERSION_BUDGETS = {
    "fast": InversionBudget(2_000, 1_000, DecoderBudget(48, 1, 8, 2e-3)),
    "thorough": InversionBudget(10_000, 2_000, DecoderBudget(128, 3, 20, 1e-3)),
}


def invert(
    features: Array,
    images: Array,
    target_features: Array,
    target_images: Array,
    *,
    person: Array | None = None,
    restored: tuple[Array, Array] | None = None,
    setting: str = "fast",
    seed: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> InversionFigures:
    """Trains a decoder on the attacker's pictures and restores others from their features.

    Nothing is saved. Retrieval looks for another picture of the same person where the data
    identifies people, else for the picture's own original, by `Embedding` of the attacker's
    pictures.

    Args:
        features: `[N, h, w, c]` float32 of the attacker's pictures, none of them attacked; at most
            the budget's `rows`, the first ones, are used.
        images: `[N, H, W, 3]` uint8, those pictures.
        target_features: `[M, h, w, c]` float32, the attacked features; at most the budget's
            `tests`.
        target_images: `[M, H, W, 3]` uint8, the originals, H >= 11.
        person: `[M]` int, the people on the originals, -1 where unknown, or None.
        restored: `([N, H, W, 3], [M, H, W, 3])` float32 in [0, 1], the released restorer's output
            for both, which the attacker also has. None where none is released.
        setting: a name of `INVERSION_BUDGETS`.
        seed: of all randomness.
        done: called with 1 after every epoch of `epochs(setting)`.

    Returns:
        The `inversion` part of audit.json without `attacker_people`. `mean_image` has the figures
        of the attacker's mean image; `retrieval` is "same_person" or "own_picture";
        `retrieval_of_originals` is the rate with originals in place of restored pictures, the best
        that the embedding can do.

    Raises:
        UsageError: no such setting.
        ValueError: shapes that do not fit.
    """
    if setting not in INVERSION_BUDGETS:
        raise UsageError(f"setting={setting!r}: expected {' or '.join(INVERSION_BUDGETS)}")
    budget = INVERSION_BUDGETS[setting]
    features, images = features[: budget.rows], images[: budget.rows]
    target_features, target_images = target_features[: budget.tests], target_images[: budget.tests]
    if restored is not None:
        features, target_features = (
            _beside(rows, pictures[: len(rows)])
            for rows, pictures in zip((features, target_features), restored, strict=True)
        )
    restore = fit_decoder(features, images, budget.decoder, seed, done)
    decoded, originals = restore(target_features), target_images / np.float32(255)
    mean = images.mean(0, dtype=np.float64).astype(np.float32) / 255
    baseline = _quality(np.broadcast_to(mean, originals.shape), originals)
    embedding = Embedding(images / np.float32(255), seed)
    gallery = embedding(originals)
    who = None if person is None else np.asarray(person)[: budget.tests]
    result, kind = _retrieval(embedding(decoded), gallery, who)
    ceiling, _ = _retrieval(gallery, gallery, who)
    return {
        **_quality(decoded, originals),
        "retrieval_rank1": result.hits / result.queries,
        "retrieval_rank1_ci95": wilson_interval(result.hits, result.queries),
        "chance": result.chance,
        "images": len(originals),
        "mean_image": baseline,
        "retrieval": kind,
        "retrieval_queries": result.queries,
        "retrieval_of_originals": ceiling.hits / ceiling.queries,
        "attacker_images": len(images),
    }


def epochs(setting: str) -> int:
    """Returns the number of epochs, the sum over calls of `done` of `invert`."""
    return INVERSION_BUDGETS[setting].decoder.epochs


def fit_decoder(
    features: Array,
    images: Array,
    budget: DecoderBudget,
    seed: int,
    done: Callable[[int], None] = lambda count: None,
) -> Callable[[Array], Array]:
    """Trains a decoder for a fixed number of epochs and returns that of the best epoch.

    The epoch is chosen by PSNR on a held-out tenth of the rows; the linear start is a candidate.

    Args:
        features: `[N, h, w, c]` float32, N >= 2.
        images: `[N, H, W, 3]` uint8, H = h * s and W = w * s for a whole s.
        budget: size and training time.
        seed: of weights, held-out rows and order.
        done: called with 1 after every epoch.

    Returns:
        A function from features `[M, h, w, c]` to images `[M, H, W, 3]` float32 in [0, 1].

    Raises:
        ValueError: the shapes do not fit.
    """
    stride = _stride(features, images)
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    held = max(1, len(images) // 10)
    validation, train = order[:held], order[held:]
    # Statistics of a part of the rows, because large arrays would be copied.
    part = rng.permutation(train)[: max(1, _MAX_CELLS // (features.shape[1] * features.shape[2]))]
    mean, spread = features[part].mean((0, 1, 2)), features[part].std((0, 1, 2))
    # Changes below rounding must not be amplified; the threshold is relative to the mean, because
    # small features may be informative.
    scale = np.where(spread > 1e-6 * np.abs(mean), 1 / np.maximum(spread, 1e-30), 0.0)
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    model = _network(features.shape[1:], stride, budget, seed)
    _start_linear(model, (features[part] - mean) * scale, images[part], stride)
    steps = max(1, len(train) // _BATCH * budget.epochs)
    schedule = keras.optimizers.schedules.CosineDecay(budget.rate, steps)
    step, decode = _graphs(model, keras.optimizers.Adam(schedule), mean, scale)

    def restore(rows: Array) -> Array:
        parts = [decode(rows[at : at + 256]).numpy() for at in range(0, len(rows), 256)]
        return np.concatenate(parts)

    def quality() -> float:
        restored = restore(features[validation])
        return float(tf.reduce_mean(psnr(restored, to_float(images[validation]))))

    best, weights = quality(), model.get_weights()
    for _ in range(budget.epochs):
        shuffled = rng.permutation(train)
        for at in range(0, max(len(train) - _BATCH, 0) + 1, _BATCH):
            rows = shuffled[at : at + _BATCH]
            step(features[rows], images[rows])
        psnr_db = quality()
        if psnr_db > best:
            best, weights = psnr_db, model.get_weights()
        done(1)
    model.set_weights(weights)
    return restore


def _stride(features: Array, images: Array) -> int:
    """Returns the number of pixels along a cell's side.

    Raises:
        ValueError: the cells do not tile the images, or the numbers of rows differ.
    """
    if features.ndim != 4 or images.ndim != 4 or len(features) != len(images):
        raise ValueError(f"features {features.shape} and images {images.shape} do not fit")
    stride = images.shape[1] // features.shape[1]
    if images.shape[1:3] != (features.shape[1] * stride, features.shape[2] * stride):
        raise ValueError(f"cells of features {features.shape} do not tile images {images.shape}")
    return stride


def _network(shape: tuple[int, ...], stride: int, budget: DecoderBudget, seed: int) -> keras.Model:
    """Builds a network: standardised features `[B, h, w, c]` -> `[B, h*s, w*s, 3]`, not clipped."""
    layers = Layers(seed, "inversion")
    pixels = 3 * stride**2
    inputs = keras.Input(shape)
    linear = layers.conv(pixels, 1, "linear", from_zero=True)(inputs)
    x = layers.conv(budget.width, 3, "in", activation="relu")(inputs)
    for number in range(budget.blocks):
        y = layers.conv(budget.width, 3, f"block{number}_in", activation="relu")(x)
        y = layers.conv(budget.width, 3, f"block{number}_out", from_zero=True)(y)
        x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    rest = layers.conv(pixels, 3, "rest", from_zero=True)(x)
    return keras.Model(inputs, from_cells(keras.layers.Add()([linear, rest]), stride, "pixels"))


def _start_linear(model: keras.Model, rows: Array, images: Array, stride: int) -> None:
    """Sets the linear layer to the ridge regression from standardised cells to their pixels."""
    _, height, width, channels = rows.shape
    x = rows.reshape(-1, channels)
    y = images.reshape(-1, height, stride, width, stride, 3).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(len(x), -1).astype(np.float32) / 255.0
    middle, centre = y.mean(0), x.mean(0)
    x = x - centre
    gram = (x.T @ x).astype(np.float64)
    penalty = _RIDGE * max(np.trace(gram) / channels, 1e-12)
    weights = np.linalg.solve(gram + penalty * np.eye(channels), x.T @ (y - middle))
    bias = middle - centre @ weights
    kernel = weights.reshape(1, 1, channels, -1).astype(np.float32)
    model.get_layer("linear").set_weights([kernel, bias.astype(np.float32)])


def _graphs(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, mean: Array, scale: Array
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns compiled functions: one update on the squared error, and features -> images."""
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(features: tf.Tensor, images: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            restored = model((features - mean) * scale, training=True)
            loss = tf.reduce_mean(tf.square(restored - to_float(images)))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    @tf.function(autograph=False, reduce_retracing=True)
    def decode(features: tf.Tensor) -> tf.Tensor:
        return tf.clip_by_value(model((features - mean) * scale, training=False), 0.0, 1.0)

    return step, decode


class Embedding:
    """Whitened principal components of pictures (Turk and Pentland 1991, "eigenfaces").

    It does not depend on the attacked network. Distances are cosine distances.

    Args:
        images: `[N, H, W, 3]` float in [0, 1], the pictures that it is fitted to; N >= 2.
        seed: of the decomposition.
    """

    def __init__(self, images: Array, seed: int) -> None:
        flat = images.reshape(len(images), -1)
        components = min(_COMPONENTS, len(flat) - 1, flat.shape[1])
        self._pca = PCA(components, whiten=True, svd_solver="randomized", random_state=seed)
        self._pca.fit(flat)

    def __call__(self, images: Array) -> Array:
        """Embeds `[N, H, W, 3]` as `[N, components]`."""
        return np.asarray(self._pca.transform(images.reshape(len(images), -1)))


class Retrieval(NamedTuple):
    """Result of nearest-neighbour retrieval.

    Attributes:
        hits: queries whose nearest picture is the right one.
        queries: number of queries.
        chance: rate of hits of random pictures.
    """

    hits: int
    queries: int
    chance: float


def nearest_is_own(queries: Array, gallery: Array) -> Retrieval:
    """Counts queries i whose nearest picture is number i of the gallery.

    Args:
        queries: `[N, d]`, N > 0.
        gallery: `[N, d]`.
    """
    nearest = _nearest(gallery, queries, 1)[:, 0]
    return Retrieval(
        int((nearest == np.arange(len(queries))).sum()), len(queries), 1 / len(gallery)
    )


def nearest_is_same_person(queries: Array, gallery: Array, person: Array) -> Retrieval | None:
    """Counts queries whose nearest *other* picture shows the same person.

    Query i is never compared with picture i. Queries are those of known people with another picture
    in the gallery.

    Args:
        queries: `[N, d]`.
        gallery: `[N, d]`.
        person: `[N]` int, -1 where unknown.

    Returns:
        None where no person has two pictures.
    """
    known = person != UNKNOWN
    places = np.flatnonzero(known)
    _, inverse, counts = np.unique(person[known], return_inverse=True, return_counts=True)
    pictures = counts[inverse]
    several = np.flatnonzero(pictures > 1)
    if not len(several):
        return None
    asked = places[several]
    nearest = places[_nearest(gallery[known], queries[asked], 2)]
    # The first of the two that is not the query's own picture.
    other = np.where(nearest[:, 0] == asked, nearest[:, 1], nearest[:, 0])
    hits = int((person[other] == person[asked]).sum())
    return Retrieval(hits, len(asked), float((pictures[several] - 1).mean() / (len(places) - 1)))


def _nearest(gallery: Array, queries: Array, count: int) -> Array:
    search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(gallery)
    return np.asarray(search.kneighbors(queries, return_distance=False))


def _beside(features: Array, pictures: Array) -> Array:
    """Returns features with the pictures' pixels as further channels of their cells."""
    stride = pictures.shape[1] // features.shape[1]
    return np.concatenate([features, to_cells(pictures, stride, "restored")], -1)


def _retrieval(queries: Array, gallery: Array, person: Array | None) -> tuple[Retrieval, str]:
    by_person = None if person is None else nearest_is_same_person(queries, gallery, person)
    if by_person is not None:
        return by_person, "same_person"
    return nearest_is_own(queries, gallery), "own_picture"


def _quality(restored: Array, originals: Array) -> ImageQuality:
    """Returns means over pictures in [0, 1]."""
    values: dict[str, list[Array]] = {"psnr": [], "ssim": []}
    for start in range(0, len(originals), 256):
        pair = restored[start : start + 256], originals[start : start + 256]
        values["psnr"].append(psnr(*pair).numpy())
        values["ssim"].append(tf.image.ssim(*pair, max_val=1.0).numpy())
    means = restoration(np.concatenate(values["psnr"]), np.concatenate(values["ssim"]), None)
    assert means["psnr_db"] is not None and means["ssim"] is not None
    return {"psnr_db": means["psnr_db"], "ssim": means["ssim"]}
