"""Feature inversion: what an attacker's own decoder restores of pictures that it never saw.

Whose pictures the attacker learns from is the caller's choice, and to be said beside the figures.

Who is on a picture, by its nearest neighbour in a gallery.

An attacker's decoder: features back to images, learned from images of its own.

It starts as the best linear map from each cell's features to the pixels under it (ridge
regression, Hoerl and Kennard 1970), in closed form, so that pixels which features carry as they
are come back at once and training never has to find them. Convolutions over the cells, which start
at zero, then learn what is left.
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
from tf_mtl_privacy.evaluation.utility import restoration
from tf_mtl_privacy.models.layers import Layers, from_cells, to_cells
from tf_mtl_privacy.models.losses import psnr

Array = np.ndarray[Any, Any]
_COMPONENTS = 64
UNKNOWN = -1


class Embedding:
    """Pictures as whitened principal components (Turk and Pentland 1991, "eigenfaces").

    Fitted to pictures of other people, it knows nothing of the network that is attacked. Distances
    are cosine distances between whitened components.

    Args:
        images: `[N, H, W, 3]` float in [0, 1], what it is fitted to; N >= 2.
        seed: of the decomposition.
    """

    def __init__(self, images: Array, seed: int) -> None:
        flat = images.reshape(len(images), -1)
        components = min(_COMPONENTS, len(flat) - 1, flat.shape[1])
        self._pca = PCA(components, whiten=True, svd_solver="randomized", random_state=seed)
        self._pca.fit(flat)

    def __call__(self, images: Array) -> Array:
        """`[N, H, W, 3]` -> `[N, components]`."""
        return np.asarray(self._pca.transform(images.reshape(len(images), -1)))


class Retrieval(NamedTuple):
    """How often the nearest picture was the right one.

    Attributes:
        hits: queries whose nearest picture is right.
        queries: how many were asked.
        chance: share that a picture drawn at random gets right.
    """

    hits: int
    queries: int
    chance: float


def nearest_is_own(queries: Array, gallery: Array) -> Retrieval:
    """Whether picture i of the gallery is the nearest to query i.

    Args:
        queries: `[N, d]`, N > 0.
        gallery: `[N, d]`.
    """
    found = _nearest(gallery, queries, 1)[:, 0]
    return Retrieval(int((found == np.arange(len(queries))).sum()), len(queries), 1 / len(gallery))


def nearest_is_same_person(queries: Array, gallery: Array, person: Array) -> Retrieval | None:
    """Whether the nearest *other* picture shows the same person.

    Query i is never compared with picture i. Only those are asked for whose person is known and
    has another picture in the gallery.

    Args:
        queries: `[N, d]`.
        gallery: `[N, d]`.
        person: `[N]` int, -1 where unknown.

    Returns:
        None where nobody has two pictures.
    """
    known = person != UNKNOWN
    places = np.flatnonzero(known)
    _, inverse, counts = np.unique(person[known], return_inverse=True, return_counts=True)
    pictures = counts[inverse]
    asked = np.flatnonzero(pictures > 1)
    if not len(asked):
        return None
    mine = places[asked]
    found = places[_nearest(gallery[known], queries[mine], 2)]
    # The first of the two that is not the query's own picture.
    other = np.where(found[:, 0] == mine, found[:, 1], found[:, 0])
    hits = int((person[other] == person[mine]).sum())
    return Retrieval(hits, len(mine), float((pictures[asked] - 1).mean() / (len(places) - 1)))


def _nearest(gallery: Array, queries: Array, count: int) -> Array:
    search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(gallery)
    return np.asarray(search.kneighbors(queries, return_distance=False))


_BATCH = 64
# Ridge penalty over the mean variance of a (standardised) feature.
_RIDGE = 1e-3
_MOST_CELLS = 200_000


@dataclasses.dataclass(frozen=True)
class DecoderSetting:
    """How hard the attacker tries.

    Attributes:
        width: channels of the convolutions.
        blocks: residual blocks of two convolutions.
        epochs: passes over the attacker's rows.
        rate: Adam's largest step size; it falls along a cosine.
    """

    width: int
    blocks: int
    epochs: int
    rate: float


def fit_decoder(
    features: Array,
    images: Array,
    setting: DecoderSetting,
    seed: int,
    done: Callable[[int], None] = lambda count: None,
) -> Callable[[Array], Array]:
    """Trains a decoder for a fixed time and keeps the epoch that restored held-out rows best.

    A tenth of the rows is held out for that choice; the linear start is one of the candidates.

    Args:
        features: `[N, h, w, c]` float32, N >= 2.
        images: `[N, H, W, 3]` uint8, H = h * s and W = w * s for a whole s.
        setting: size and time.
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
    # Statistics from a part, where there is much: all rows at once would be copied.
    part = rng.permutation(train)[: max(1, _MOST_CELLS // (features.shape[1] * features.shape[2]))]
    mean, spread = features[part].mean((0, 1, 2)), features[part].std((0, 1, 2))
    # What changes by less than rounding says nothing, and must not be blown up; how small a
    # feature is says nothing either, so it is compared with its own mean.
    scale = np.where(spread > 1e-6 * np.abs(mean), 1 / np.maximum(spread, 1e-30), 0.0)
    mean, scale = mean.astype(np.float32), scale.astype(np.float32)
    model = _network(features.shape[1:], stride, setting, seed)
    _start_linear(model, (features[part] - mean) * scale, images[part], stride)
    steps = max(1, len(train) // _BATCH * setting.epochs)
    schedule = keras.optimizers.schedules.CosineDecay(setting.rate, steps)
    step, decode = _graphs(model, keras.optimizers.Adam(schedule), mean, scale)

    def restore(rows: Array) -> Array:
        parts = [decode(rows[at : at + 256]).numpy() for at in range(0, len(rows), 256)]
        return np.concatenate(parts)

    def quality() -> float:
        restored = restore(features[validation])
        return float(tf.reduce_mean(psnr(restored, to_float(images[validation]))))

    best, kept = quality(), model.get_weights()
    for _ in range(setting.epochs):
        shuffled = rng.permutation(train)
        for at in range(0, max(len(train) - _BATCH, 0) + 1, _BATCH):
            rows = shuffled[at : at + _BATCH]
            step(features[rows], images[rows])
        found = quality()
        if found > best:
            best, kept = found, model.get_weights()
        done(1)
    model.set_weights(kept)
    return restore


def _stride(features: Array, images: Array) -> int:
    """Pixels along a cell's side.

    Raises:
        ValueError: the cells do not tile the images, or the rows are not as many.
    """
    if features.ndim != 4 or images.ndim != 4 or len(features) != len(images):
        raise ValueError(f"features {features.shape} and images {images.shape} do not fit")
    stride = images.shape[1] // features.shape[1]
    if images.shape[1:3] != (features.shape[1] * stride, features.shape[2] * stride):
        raise ValueError(f"cells of features {features.shape} do not tile images {images.shape}")
    return stride


def _network(
    shape: tuple[int, ...], stride: int, setting: DecoderSetting, seed: int
) -> keras.Model:
    """Standardised features `[B, h, w, c]` -> `[B, h*s, w*s, 3]`, not yet clipped."""
    layers = Layers(seed, "inversion")
    pixels = 3 * stride**2
    inputs = keras.Input(shape)
    linear = layers.conv(pixels, 1, "linear", from_zero=True)(inputs)
    x = layers.conv(setting.width, 3, "in", activation="relu")(inputs)
    for number in range(setting.blocks):
        y = layers.conv(setting.width, 3, f"block{number}_in", activation="relu")(x)
        y = layers.conv(setting.width, 3, f"block{number}_out", from_zero=True)(y)
        x = keras.layers.Activation("relu")(keras.layers.Add()([x, y]))
    rest = layers.conv(pixels, 3, "rest", from_zero=True)(x)
    return keras.Model(inputs, from_cells(keras.layers.Add()([linear, rest]), stride, "pixels"))


def _start_linear(model: keras.Model, rows: Array, images: Array, stride: int) -> None:
    """Sets the linear layer to the ridge solution of (standardised) cells -> their pixels."""
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
    """(one update on the squared error, features -> images) as compiled functions."""
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


@dataclasses.dataclass(frozen=True)
class InversionSetting:
    """How hard the attacker tries.

    Attributes:
        rows: most rows that it learns from.
        tests: most pictures that are restored and scored.
        decoder: of its network.
    """

    rows: int
    tests: int
    decoder: DecoderSetting


SETTINGS = {
    "fast": InversionSetting(2_000, 1_000, DecoderSetting(48, 1, 8, 2e-3)),
    "thorough": InversionSetting(10_000, 2_000, DecoderSetting(128, 3, 20, 1e-3)),
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
) -> dict[str, Any]:
    """Trains a decoder on the attacker's pictures and restores others from their features.

    Nothing is stored. Retrieval asks whether a restored picture is nearest to another picture of
    the same person, where the data says who is who; else to its own original among all. The
    embedding is `retrieval.Embedding`, of the attacker's pictures.

    Args:
        features: `[N, h, w, c]` float32 of the attacker's pictures, none of them attacked. At most
            the setting's `rows` are used, the first ones.
        images: `[N, H, W, 3]` uint8, those pictures.
        target_features: `[M, h, w, c]` float32, what is attacked. At most the setting's `tests`.
        target_images: `[M, H, W, 3]` uint8, the originals, H >= 11.
        person: `[M]` int who is on the targets, -1 where unknown, or None.
        restored: `([N, H, W, 3], [M, H, W, 3])` float32 in [0, 1], what a released restorer makes
            of both features: the attacker has it, too. None where none is released.
        setting: 'fast' or 'thorough'.
        seed: of everything that is random.
        done: called with 1 after every epoch of `epochs(setting)`.

    Returns:
        `psnr_db`, `ssim` (means over pictures), `retrieval_rank1`, `retrieval_rank1_ci95` (Wilson),
        `chance` of it, `images` (targets), `mean_image` (`psnr_db`, `ssim` of the attacker's mean
        image); further `retrieval` ("same_person" or "own_picture"), `retrieval_queries`,
        `retrieval_of_originals` (the same figure with originals in place of restored pictures:
        what the embedding can do at best) and `attacker_images`.

    Raises:
        UsageError: no such setting.
        ValueError: shapes that do not fit.
    """
    if setting not in SETTINGS:
        raise UsageError(f"setting={setting!r}: expected {' or '.join(SETTINGS)}")
    effort = SETTINGS[setting]
    features, images = features[: effort.rows], images[: effort.rows]
    target_features, target_images = target_features[: effort.tests], target_images[: effort.tests]
    if restored is not None:
        features, target_features = (
            _beside(rows, pictures[: len(rows)])
            for rows, pictures in zip((features, target_features), restored, strict=True)
        )
    restore = fit_decoder(features, images, effort.decoder, seed, done)
    decoded, originals = restore(target_features), target_images / np.float32(255)
    mean = images.mean(0, dtype=np.float64).astype(np.float32) / 255
    baseline = _quality(np.broadcast_to(mean, originals.shape), originals)
    embedding = Embedding(images / np.float32(255), seed)
    gallery = embedding(originals)
    who = None if person is None else np.asarray(person)[: effort.tests]
    found, kind = _retrieval(embedding(decoded), gallery, who)
    ceiling, _ = _retrieval(gallery, gallery, who)
    return {
        **_quality(decoded, originals),
        "retrieval_rank1": found.hits / found.queries,
        "retrieval_rank1_ci95": wilson_interval(found.hits, found.queries),
        "chance": found.chance,
        "images": len(originals),
        "mean_image": baseline,
        "retrieval": kind,
        "retrieval_queries": found.queries,
        "retrieval_of_originals": ceiling.hits / ceiling.queries,
        "attacker_images": len(images),
    }


def epochs(setting: str) -> int:
    """What `done` of `invert` adds up to."""
    return SETTINGS[setting].decoder.epochs


def _beside(features: Array, pictures: Array) -> Array:
    """Features with the pictures' pixels as further channels of their cells."""
    stride = pictures.shape[1] // features.shape[1]
    return np.concatenate([features, to_cells(pictures, stride, "restored")], -1)


def _retrieval(queries: Array, gallery: Array, person: Array | None) -> tuple[Retrieval, str]:
    by_person = None if person is None else nearest_is_same_person(queries, gallery, person)
    if by_person is not None:
        return by_person, "same_person"
    return nearest_is_own(queries, gallery), "own_picture"


def _quality(restored: Array, originals: Array) -> dict[str, Any]:
    """`psnr_db` and `ssim`, means over pictures in [0, 1]."""
    found: dict[str, list[Array]] = {"psnr": [], "ssim": []}
    for start in range(0, len(originals), 256):
        pair = restored[start : start + 256], originals[start : start + 256]
        found["psnr"].append(psnr(*pair).numpy())
        found["ssim"].append(tf.image.ssim(*pair, max_val=1.0).numpy())
    means = restoration(np.concatenate(found["psnr"]), np.concatenate(found["ssim"]), None)
    return {name: means[name] for name in ("psnr_db", "ssim")}
