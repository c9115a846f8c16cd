"""What a trained bundle says about rows of a data set: forward passes in inference mode only.

What a trained bundle says about pictures that belong to no data set.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.training.losses import psnr

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.models.bundle import Bundle


Array = np.ndarray[Any, Any]
MEAN_IMAGE_ROWS = 10_000


class Predictions(NamedTuple):
    """Predictions and labels of N real rows, in the order asked for.

    Attributes:
        business: task -> `[N, classes]` float32 logits.
        business_labels: task -> `[N]` int32, -1 where unknown.
        private_logits: `[N, K]` float32 of the in-loop discriminator, or None without one.
        private_labels: `[N]` int32, -1 where unknown.
        psnr: `[N]` float32 dB of each restored image on [0, 1], or None without a restorer.
        ssim: `[N]` float32 in [-1, 1], or None.
        business_on_restored: like `business`, of the re-encoded restored images, or None.
        index: `[N]` int64, the rows' numbers in their store.
        mean_image_psnr: `[N]` float32 dB of the mean image, or None where none was given.
    """

    business: dict[str, Array]
    business_labels: dict[str, Array]
    private_logits: Array | None
    private_labels: Array
    psnr: Array | None
    ssim: Array | None
    business_on_restored: dict[str, Array] | None
    index: Any
    mean_image_psnr: Array | None


def business_logits(bundle: Bundle, dataset: Dataset, rows: Array) -> dict[str, Array]:
    """Task -> `[N, classes]` logits of B alone; see `predict_rows`."""
    heads = dataclasses.replace(bundle, discriminator=None, restorer=None)
    return predict_rows(heads, dataset, rows).business


def predict_rows(
    bundle: Bundle,
    dataset: Dataset,
    rows: Array,
    batch_size: int = 256,
    *,
    mean_image: Array | None = None,
    label: str = "evaluating",
) -> Predictions:
    """Runs every head that the bundle has over `rows`.

    Restored images are scored batch by batch and not kept. A head that is not wanted is left out
    by giving a bundle without it: `dataclasses.replace(bundle, restorer=None)`.

    Args:
        bundle: the networks.
        dataset: where the rows are.
        rows: `[N]` int64, numbers of rows in the data set's store; N > 0.
        batch_size: rows per forward pass; does not change the result.
        mean_image: `[H, W, 3]` float32 in [0, 1] (see `mean_image`) to score as the baseline.
        label: what the progress bar says.

    Raises:
        ValueError: no rows.
    """
    if not len(rows):
        raise ValueError("expected at least one row to predict")
    capacity = min(batch_size, len(rows))
    forward = compiled_forward(bundle)
    shape = (dataset.image_size, dataset.image_size, 3)
    baseline = np.zeros(shape, np.float32) if mean_image is None else mean_image.astype(np.float32)
    parts = []
    with Progress(len(rows), label, "rows") as progress:
        for start in range(0, len(rows), capacity):
            batch = dataset.batch(rows[start : start + capacity], capacity)
            found = forward(tf.convert_to_tensor(batch.image), baseline)
            real = np.asarray(batch.mask)
            labels = {
                "business_labels": batch.business,
                "private_labels": batch.private,
                "index": batch.index,
            }
            parts.append(_select({**found, **labels}, real))
            progress.update(int(real.sum()))
    merged = _concatenate(parts)
    if mean_image is None:
        merged["mean_image_psnr"] = None
    return Predictions(**merged)


@functools.lru_cache(maxsize=8)
def compiled_forward(bundle: Bundle) -> Callable[[Any, Any], dict[str, Any]]:
    """The graph `(image [B, H, W, 3] uint8, mean image [H, W, 3]) -> figures per row`.

    It reads the networks' current weights at each call, and is kept so that validation in every
    epoch does not trace it again. The figures are those of `Predictions`, without labels.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def forward(image: Any, mean_image: Any) -> dict[str, Any]:
        original = to_float(image)
        features = bundle.encoder(original, training=False)
        found = {
            "business": bundle.business(features, training=False),
            "private_logits": None,
            "psnr": None,
            "ssim": None,
            "business_on_restored": None,
            "mean_image_psnr": psnr(tf.broadcast_to(mean_image, tf.shape(original)), original),
        }
        if bundle.discriminator is not None:
            found["private_logits"] = bundle.discriminator(features, training=False)
        if bundle.restorer is not None:
            restored = bundle.restorer(features, training=False)
            again = bundle.encoder(restored, training=False)
            found["psnr"] = psnr(restored, original)
            found["ssim"] = tf.image.ssim(restored, original, max_val=1.0)
            found["business_on_restored"] = bundle.business(again, training=False)
        return found

    return forward


def mean_image(dataset: Dataset, split: str = "train") -> Array | None:
    """The mean image of a split: `[H, W, 3]` float32 in [0, 1], or None where it has no rows.

    Of at most `MEAN_IMAGE_ROWS` evenly spaced rows: the mean of that many is the mean of all to
    well below one grey level.
    """
    rows = dataset.rows.get(split, np.zeros(0, np.int64))
    if not len(rows):
        return None
    rows = rows[:: -(-len(rows) // MEAN_IMAGE_ROWS)]
    total = 0.0
    for start in range(0, len(rows), 512):
        total = total + dataset.store.images(rows[start : start + 512]).sum(0, dtype=np.float64)
    return np.asarray(total / (255.0 * len(rows)), np.float32)


def _select(values: Mapping[str, Any], real: Array) -> dict[str, Any]:
    """The real rows of every array, as NumPy."""

    def pick(value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, Mapping):
            return {name: pick(item) for name, item in value.items()}
        return np.asarray(value)[real]

    return {name: pick(value) for name, value in values.items()}


def _concatenate(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Joins the batches' arrays."""

    def join(values: list[Any]) -> Any:
        if values[0] is None:
            return None
        if isinstance(values[0], Mapping):
            return {name: join([value[name] for value in values]) for name in values[0]}
        return np.concatenate(values)

    return {name: join([part[name] for part in parts]) for name in parts[0]}


class ImagePredictions(NamedTuple):
    """What the networks say about N pictures.

    Attributes:
        probabilities: task -> `[N, classes]` float32, each row sums to 1.
        restored: `[N, S, S, 3]` uint8, or None where not asked for.
    """

    probabilities: dict[str, Array]
    restored: Array | None


def predict_images(bundle: Bundle, images: Array, *, restore: bool = False) -> ImagePredictions:
    """One forward pass in inference mode over a batch.

    Args:
        bundle: the networks.
        images: `[N, S, S, 3]` uint8, prepared as for training; N > 0.
        restore: also restore the pictures from their features.

    Raises:
        ValueError: `restore`, and the bundle has no restorer.
    """
    features = bundle.encoder(to_float(tf.convert_to_tensor(images)), training=False)
    logits = bundle.business(features, training=False)
    probabilities = {task: tf.nn.softmax(values).numpy() for task, values in logits.items()}
    restored = None
    if restore:
        if bundle.restorer is None:
            raise ValueError("the bundle has no restorer")
        values = np.asarray(bundle.restorer(features, training=False))
        restored = np.rint(values * 255.0).clip(0, 255).astype(np.uint8)
    return ImagePredictions(probabilities, restored)
