"""Forward passes of trained networks in inference mode: predictions and validation figures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.losses import psnr
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.types import Batch

Array = np.ndarray[Any, Any]
MEAN_IMAGE_ROWS = 10_000


class Predictions(NamedTuple):
    """Predictions and labels of N real rows, in the requested order.

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
    """Returns task -> `[N, classes]` logits of the task classifier; see `predict_rows`."""
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

    Restored images are scored batch by batch and not kept. To leave out a head, give a bundle
    without it: `dataclasses.replace(bundle, restorer=None)`.

    Args:
        bundle: the networks.
        dataset: where the rows are.
        rows: `[N]` int64, numbers of rows in the data set's store; N > 0.
        batch_size: rows per forward pass; does not change the result.
        mean_image: `[H, W, 3]` float32 in [0, 1] (see `mean_image`) to score as the baseline.
        label: of the progress bar.

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
            figures = forward(tf.convert_to_tensor(batch.image), baseline)
            real = np.asarray(batch.mask)
            labels = {
                "business_labels": batch.business,
                "private_labels": batch.private,
                "index": batch.index,
            }
            parts.append(_select({**figures, **labels}, real))
            progress.update(int(real.sum()))
    merged = _concatenate(parts)
    if mean_image is None:
        merged["mean_image_psnr"] = None
    return Predictions(**merged)


@functools.lru_cache(maxsize=8)
def compiled_forward(bundle: Bundle) -> Callable[[Any, Any], dict[str, Any]]:
    """Returns the graph `(image [B, H, W, 3] uint8, mean image [H, W, 3]) -> figures per row`.

    It reads the networks' current weights at each call, and is cached so that repeated predictions
    do not trace it again. The figures are those of `Predictions`, without labels.
    """

    @tf.function(autograph=False, reduce_retracing=True)
    def forward(image: Any, mean_image: Any) -> dict[str, Any]:
        original = to_float(image)
        features = bundle.encoder(original, training=False)
        figures = {
            "business": bundle.business(features, training=False),
            "private_logits": None,
            "psnr": None,
            "ssim": None,
            "business_on_restored": None,
            "mean_image_psnr": psnr(tf.broadcast_to(mean_image, tf.shape(original)), original),
        }
        if bundle.discriminator is not None:
            figures["private_logits"] = bundle.discriminator(features, training=False)
        if bundle.restorer is not None:
            restored = bundle.restorer(features, training=False)
            again = bundle.encoder(restored, training=False)
            figures["psnr"] = psnr(restored, original)
            figures["ssim"] = tf.image.ssim(restored, original, max_val=1.0)
            figures["business_on_restored"] = bundle.business(again, training=False)
        return figures

    return forward


def mean_image(dataset: Dataset, split: str = "train") -> Array | None:
    """Computes a split's mean image `[H, W, 3]`, float32 in [0, 1]; None if it has no rows.

    It reads at most `MEAN_IMAGE_ROWS` evenly spaced rows, whose mean differs from the mean of all
    by well below one grey level.
    """
    rows = dataset.rows.get(split, np.zeros(0, np.int64))
    if not len(rows):
        return None
    rows = rows[:: -(-len(rows) // MEAN_IMAGE_ROWS)]
    total = 0.0
    for start in range(0, len(rows), 512):
        total = total + dataset.store.images(rows[start : start + 512]).sum(0, dtype=np.float64)
    return np.asarray(total / (255.0 * len(rows)), np.float32)


class ImagePredictions(NamedTuple):
    """Predictions for N images that belong to no data set.

    Attributes:
        probabilities: task -> `[N, classes]` float32, each row sums to 1.
        restored: `[N, S, S, 3]` uint8, or None if not requested.
    """

    probabilities: dict[str, Array]
    restored: Array | None


def predict_images(bundle: Bundle, images: Array, *, restore: bool = False) -> ImagePredictions:
    """Runs one forward pass in inference mode over a batch of images.

    Args:
        bundle: the networks.
        images: `[N, S, S, 3]` uint8, prepared as for training; N > 0.
        restore: also restore the images from their features.

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


class Validator:
    """Measures the figures that the schedule reads after every epoch, on a fixed set of rows.

    Args:
        bundle: the networks, run in inference mode.
        dataset: has the rows and labels.
        rows: `[N]` int64 store rows.
        batch_size: maximum number of rows per call.
    """

    def __init__(
        self, bundle: Bundle, dataset: Dataset, rows: np.ndarray, batch_size: int = 256
    ) -> None:
        self._bundle, self._dataset, self.rows = bundle, dataset, rows
        # No padding to a whole batch where there are fewer rows than one holds.
        self._batch_size = max(min(batch_size, len(rows)), 1)
        self._encode = tf.function(
            lambda x: bundle.encoder(to_float(x), training=False), autograph=False
        )
        self._business = tf.function(lambda f: bundle.business(f, training=False), autograph=False)
        if bundle.discriminator is not None:
            self._private = tf.function(
                lambda f: bundle.discriminator(f, training=False), autograph=False
            )
        if bundle.restorer is not None:
            self._psnr = tf.function(
                lambda f, x: psnr(bundle.restorer(f, training=False), to_float(x)),
                autograph=False,
            )

    def batches(self) -> Iterator[tuple[Batch, tf.Tensor]]:
        """Yields padded batches of the rows with their features."""
        for start in range(0, len(self.rows), self._batch_size):
            part = self.rows[start : start + self._batch_size]
            batch = self._dataset.batch(part, capacity=self._batch_size)
            yield batch, self._encode(tf.convert_to_tensor(batch.image))

    def measure(
        self, parts: Iterable[str], batches: Iterable[tuple[Batch, tf.Tensor]] | None = None
    ) -> dict[str, float]:
        """Computes means over the rows.

        Args:
            parts: which heads: "business", "discriminator", "restorer".
            batches: as `batches()` yields them, for example cached features of a frozen encoder.

        Returns:
            `<task>_accuracy`, `privacy_accuracy`, `privacy_balanced_accuracy` (fractions) and
            `psnr_db`. Figures of missing heads, or of labels that are all unknown, are absent.
        """
        wanted = set(parts)
        columns: dict[str, list[np.ndarray]] = {}
        for batch, features in self.batches() if batches is None else batches:
            real = batch.mask
            if "business" in wanted:
                for task, logits in self._business(features).items():
                    predicted = np.argmax(logits, axis=-1)[real]
                    columns.setdefault(f"{task}/predicted", []).append(predicted)
                    columns.setdefault(f"{task}/label", []).append(batch.business[task][real])
            if "discriminator" in wanted and self._bundle.discriminator is not None:
                predicted = np.argmax(self._private(features), axis=-1)[real]
                columns.setdefault("privacy/predicted", []).append(predicted)
                columns.setdefault("privacy/label", []).append(batch.private[real])
            if "restorer" in wanted and self._bundle.restorer is not None:
                decibels = self._psnr(features, tf.convert_to_tensor(batch.image)).numpy()
                columns.setdefault("psnr", []).append(decibels[real])
        return _figures({name: np.concatenate(parts) for name, parts in columns.items()})


def _select(values: Mapping[str, Any], real: Array) -> dict[str, Any]:
    """Returns the real rows of every array, as NumPy."""

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


def _figures(columns: dict[str, np.ndarray]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name in [key.removesuffix("/label") for key in columns if key.endswith("/label")]:
        labels, predicted = columns[f"{name}/label"], columns[f"{name}/predicted"]
        known = labels >= 0
        if not known.any():
            continue
        figures[f"{name}_accuracy"] = float(np.mean(labels[known] == predicted[known]))
        if name == "privacy":
            figures["privacy_balanced_accuracy"] = _balanced(labels[known], predicted[known])
    if "psnr" in columns and len(columns["psnr"]):
        figures["psnr_db"] = float(np.mean(columns["psnr"]))
    return figures


def _balanced(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the mean recall over the classes that have rows."""
    hits = labels == predicted
    return float(np.mean([np.mean(hits[labels == label]) for label in np.unique(labels)]))
