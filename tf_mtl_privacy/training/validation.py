"""The few figures that the schedule reads after every epoch, on validation rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.training import losses
from tf_mtl_privacy.types import Batch


class Validator:
    """Measures heads on a fixed set of rows.

    Args:
        bundle: the networks, run in inference mode.
        dataset: where rows and labels are.
        rows: `[N]` int64 store rows.
        batch_size: most rows per call.
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
                lambda f, x: losses.psnr(bundle.restorer(f, training=False), to_float(x)),
                autograph=False,
            )

    def batches(self) -> Iterator[tuple[Batch, tf.Tensor]]:
        """Padded batches of the rows with their features."""
        for start in range(0, len(self.rows), self._batch_size):
            part = self.rows[start : start + self._batch_size]
            batch = self._dataset.batch(part, capacity=self._batch_size)
            yield batch, self._encode(tf.convert_to_tensor(batch.image))

    def measure(
        self, parts: Iterable[str], batches: Iterable[tuple[Batch, tf.Tensor]] | None = None
    ) -> dict[str, float]:
        """Means over the rows.

        Args:
            parts: which heads: "business", "discriminator", "restorer".
            batches: as `batches()` yields them, for example kept from a frozen encoder.

        Returns:
            `<task>_accuracy`, `privacy_accuracy`, `privacy_balanced_accuracy` (fractions) and
            `psnr_db`, as far as the heads exist and a label is known; missing figures are absent.
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
                psnr = self._psnr(features, tf.convert_to_tensor(batch.image)).numpy()[real]
                columns.setdefault("psnr", []).append(psnr)
        return _figures({name: np.concatenate(parts) for name, parts in columns.items()})


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
    """Mean recall over the classes that have rows."""
    hits = labels == predicted
    return float(np.mean([np.mean(hits[labels == label]) for label in np.unique(labels)]))
