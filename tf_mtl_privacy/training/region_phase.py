"""The phase in which the encoder's mask learns what to cover."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.data.sampling import ShuffledEpochs
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.cover import Cover
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.models.mask import colour_of, cover_cells, mask_cells, region_finder
from tf_mtl_privacy.models.region_reader import build_region_reader
from tf_mtl_privacy.training.colour_axis import colour_axis
from tf_mtl_privacy.training.phase import Phase, phase
from tf_mtl_privacy.training.public_faces import held_out, public_faces
from tf_mtl_privacy.training.region_steps import make_region_step

# Small batches: what counts is the number of steps.
_BATCH, _VALIDATION_BATCH = 64, 250
_READER_RATE, _LAST_RATE = 3.0, 0.1
NAME = "regions"


class RegionPart:
    """The mask, its reader and their optimizers.

    The reader is never released: it is thrown away with the checkpoints.

    Args:
        config: the run's configuration.
        dataset: the run's rows; read only with `--region_labels=train`.
        encoder: has a mask.

    Raises:
        UsageError: the public faces have other private classes than the data set.
    """

    def __init__(self, config: Config, dataset: Dataset, encoder: keras.Model) -> None:
        self._config, self._own = config, dataset
        self._public: Dataset | None = None
        seed, removal = config.train.seed, config.removal
        _check_length(config, _steps_per_epoch(config, dataset))
        self._finder, self._colour = region_finder(encoder), colour_of(encoder)
        self._cells = mask_cells(encoder)
        # Where the mask is to lie is learned with all colours covered: what passes of two of them
        # would tell the mask nothing of where it lies.
        grey = Cover(removal.mask_cell, "grey")
        self._cover = cover_cells(encoder) if self._colour is None else grey
        self._reader = build_region_reader(
            dataset.image_size,
            len(dataset.private_classes),
            width=removal.mask_width,
            seed=seed,
        )
        # Brought down to a tenth, so that the mask's edges settle and do not follow the last batch.
        steps = max(removal.region_epochs * _steps_per_epoch(config, dataset), 1)
        mask, reader = (
            keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(rate, steps, alpha=_LAST_RATE)
            )
            for rate in (
                removal.region_learning_rate,
                _READER_RATE * removal.region_learning_rate,
            )
        )
        self.optimizers = {"mask": mask, "region_reader": reader}
        self._step = make_region_step(
            self._finder,
            self._reader,
            self._cover,
            (mask, reader),
            price=removal.mask_price,
            head_start=removal.region_head_start,
            seed=layer_seed(seed, "regions/draws"),
        )
        self._read = tf.function(self._reads, autograph=False)

    @property
    def variables(self) -> list[Any]:
        """Of the reader; the mask's are the encoder's."""
        variables: list[Any] = self._reader.variables
        return variables

    def phase(self) -> Phase:
        """Reads labels of public faces or, with `--region_labels=train`, of training rows."""
        data = self._data()
        rows = data.rows["train"]
        labelled = np.flatnonzero(data.labels("train").private >= 0)
        seed = layer_seed(self._config.train.seed, "regions/order")
        sampler = ShuffledEpochs(labelled, _BATCH, seed, drop_ragged=len(labelled) > _BATCH)

        def read(positions: np.ndarray, mask: np.ndarray) -> tuple[tf.Tensor, ...]:
            batch = data.batch(rows[positions[mask]], capacity=len(positions))
            return tuple(map(tf.convert_to_tensor, (batch.image, batch.private, batch.mask)))

        built = phase(
            self._config, NAME, sampler, read, lambda inputs: self._step(*inputs), self._measure
        )
        return dataclasses.replace(built, before_epoch=self._find_colour)

    def _find_colour(self, epoch: int) -> None:
        """Before the first epoch: which axis of colour the mask takes away, where it takes one."""
        if self._colour is None or epoch:
            return
        data = self._data()
        rows = data.rows["train"]
        known = rows[data.labels_of(rows).private >= 0]
        try:
            axis = colour_axis(_pictures(data, known), len(self._own.private_classes))
        except ValueError as error:
            raise UsageError(
                f"--mask_fill=colour: {len(known)} labelled rows do not say which axis of colour "
                "tells their classes apart; give more, or --mask_fill=grey"
            ) from error
        self._colour.axis.assign(axis)

    def _data(self) -> Dataset:
        if self._config.removal.region_labels == "train":
            return self._own
        if self._public is None:
            self._public = public_faces(self._config)
            if self._public.private_classes != self._own.private_classes:
                raise UsageError(
                    "--region_labels=public: the public faces have other classes of "
                    f"--private_label={self._config.data.effective_private_label} than this data"
                )
        return self._public

    def _measure(self) -> dict[str, float]:
        """What the reader reads of held-out rows that are covered as they will be, and how much."""
        hits, area, count = 0.0, 0.0, 0
        for images, labels in self._held_out():
            found, covered = self._read(tf.convert_to_tensor(images))
            hits += float(np.sum(np.argmax(found, -1) == labels))
            area += float(np.sum(covered))
            count += len(labels)
        return {"region_reader_accuracy": hits / count, "mask_area": area / count} if count else {}

    def _held_out(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        data = self._data()
        rows = data.rows["validation"]
        return _pictures(data, rows[data.labels_of(rows).private >= 0])

    def _reads(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        picture = to_float(images)
        cells = self._cells.marked(self._finder(picture))
        logits = self._reader(self._cover([picture, cells]), training=False)
        return logits, tf.reduce_mean(cells, [1, 2, 3])


def _pictures(data: Dataset, rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pictures and private labels of rows, in parts."""
    for start in range(0, len(rows), _VALIDATION_BATCH):
        part = rows[start : start + _VALIDATION_BATCH]
        yield data.store.images(part), data.labels_of(part).private


def _check_length(config: Config, steps_per_epoch: int) -> None:
    """A mask that never learned would cover next to nothing, and be called learned."""
    removal, brought = config.removal, bool(config.model.backbone)
    steps = removal.region_epochs * steps_per_epoch
    if steps <= removal.region_head_start and not brought:
        raise UsageError(
            f"--region_epochs={removal.region_epochs}: {steps} steps, of which "
            f"--region_head_start={removal.region_head_start} pass before the mask learns; give "
            "more epochs or rows, or a smaller head start"
        )


def _steps_per_epoch(config: Config, dataset: Dataset) -> int:
    """About how many: public faces are drawn only when the phase begins."""
    if config.removal.region_labels == "public":
        rows = config.removal.region_rows - held_out(config.removal.region_rows)
    else:
        rows = int(np.sum(dataset.labels("train").private >= 0))
    return max(rows // _BATCH, 1)
