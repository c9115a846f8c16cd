"""The phase in which the encoder's mask learns what to cover.

Which axis of colour says the private label, in closed form. No TensorFlow.

Source: the between-class scatter of Fisher's discriminant (Fisher 1936, "The Use of Multiple
Measurements in Taxonomic Problems"), of colours instead of whole pictures; that chance adds to it
is taken off. Taking the axis away is linear erasure as in LEACE (Belrose et al. 2023), restricted
to one direction that all pixels share.

One update of the mask and of the reader that it is trained against, as a `tf.function`.

The paper (section 3.1) says that regions are marked and masked, not how. Here the reader learns
the private label from covered pictures and the mask learns to leave it nothing, at a price for
every cell: min over masks of `H(uniform, reader(covered picture)) - log K + price * area`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import chi2

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.data.sampling import ShuffledEpochs
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.removal.mask import (
    Cover,
    WithoutAxis,
    build_region_reader,
    colour_of,
    cover_cells,
    mask_cells,
    region_finder,
    tried_cells,
)
from tf_mtl_privacy.training import losses
from tf_mtl_privacy.training.phase import Phase, phase
from tf_mtl_privacy.training.public_faces import held_out, public_faces

Array = np.ndarray[Any, Any]
# A place counts where so large a difference between classes has this chance without a label.
_CHANCE = 0.05
_FLOOR = 1e-9


def colour_axis(batches: Iterable[tuple[Array, Array]], classes: int) -> Array:
    """The axis along which the classes' mean pictures differ most.

    At each place p, with n_k pictures of class k and their mean m_k(p), the between-class scatter
    B_p = sum_k n_k (m_k - m)(m_k - m)^T has the mean (K - 1) W_p where colour says nothing of the
    class, W_p the covariance within classes. The axis is the leading eigenvector of
    sum_p (B_p - (K - 1) W_p) / tr W_p over the places where trace(W_p^-1 B_p), which then is about
    chi-squared with 3 (K - 1) degrees of freedom, is above its 95 % point; over all places where
    it is nowhere.

    Args:
        batches: pictures `[n, S, S, 3]` uint8 and classes `[n]` in [0, K), at least two of which
            occur and more pictures than classes.
        classes: K >= 2.

    Returns:
        `[3]` float32 of length 1, red, green, blue; of its two signs that in which the largest
        entry is positive.

    Raises:
        ValueError: too few pictures.
    """
    counts, sums, squares = _moments(batches, classes)
    total, known = counts.sum(), counts > 0
    if known.sum() < 2 or total <= known.sum():
        raise ValueError(f"Expected two classes and more pictures than classes, got {counts}")
    means = sums[known] / counts[known, None, None, None]
    between = _weighed(counts[known], means - sums.sum(0) / total)
    within = (squares - _weighed(counts[known], means)) / (total - known.sum())
    within += _FLOOR * np.eye(3)
    freedom = int(known.sum()) - 1
    scatter = (between - freedom * within) / np.trace(within, axis1=-2, axis2=-1)[..., None, None]
    evidence = np.trace(np.linalg.solve(within, between), axis1=-2, axis2=-1)
    places = evidence > chi2.ppf(1.0 - _CHANCE, 3 * freedom)
    scatter = scatter[places if places.any() else np.ones_like(places)].sum(0)
    axis = np.linalg.eigh(scatter)[1][:, -1]
    axis *= np.sign(axis[np.argmax(np.abs(axis))])
    return axis.astype(np.float32)


def _moments(batches: Iterable[tuple[Array, Array]], classes: int) -> tuple[Array, Array, Array]:
    """Pictures of each class `[K]`, their sum `[K, S, S, 3]`, all products `[S, S, 3, 3]`."""
    counts, sums, squares = np.zeros(classes), np.zeros(()), np.zeros(())
    for images, labels in batches:
        picture = images.astype(np.float32) / 255.0
        if not sums.ndim:
            sums = np.zeros((classes, *picture.shape[1:]))
        for number in np.unique(labels):
            sums[number] += picture[labels == number].sum(0)
        counts += np.bincount(labels, minlength=classes)
        squares = squares + np.einsum("nhwc,nhwd->hwcd", picture, picture)
    return counts, sums, squares


def _weighed(counts: Array, means: Array) -> Array:
    """`sum_k n_k m_k m_k^T` at each place."""
    return np.einsum("k,khwc,khwd->hwcd", counts, means, means)


# Of the reader's rows so many are not covered, or it would forget what it has to look for.
_BARE_SHARE = 4
# Log-odds beyond this are pulled back, or a cell that is certain would never change again.
_MOST_ODDS = 4.0
_PULL = 1e-3

RegionStep = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]


def make_region_step(
    finder: keras.Model,
    reader: keras.Model,
    cover: Callable[[Any], Any],
    optimizers: tuple[keras.optimizers.Optimizer, keras.optimizers.Optimizer],
    *,
    price: float,
    head_start: int,
    seed: int,
) -> RegionStep:
    """The step: pictures `[B, S, S, 3]` uint8, labels `[B]` int32 (-1 unknown), mask `[B]` bool.

    Both networks move at once, the reader down its cross-entropy and the mask down its own loss.
    All draws follow from `seed` and the number of updates taken, so that a run that was stopped
    goes on with the same ones.

    Args:
        finder: pictures -> log-odds (`models.mask.region_finder`).
        reader: covered pictures -> logits.
        cover: what paints cells over (`models.mask.cover_cells`).
        optimizers: of the mask and of the reader.
        price: nats for covering a whole picture.
        head_start: steps in which only the reader learns.
        seed: of the draws.
    """
    of_mask, of_reader = optimizers
    # An axis of colour that is taken away was found in closed form and stays.
    moving = [layer for layer in finder.layers if not isinstance(layer, WithoutAxis)]
    finding = [weight for layer in moving for weight in layer.weights]
    reading = reader.trainable_variables
    of_mask.build(finding)
    of_reader.build(reading)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(image: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        picture, known = to_float(image), tf.logical_and(mask, labels >= 0)
        taken = tf.cast(of_reader.iterations, tf.int32)
        playing = taken >= head_start
        bare = tf.cast(tf.range(tf.shape(labels)[0]) % _BARE_SHARE == 0, tf.float32)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in (*finding, *reading)])
            odds = finder(picture)
            cells = tried_cells(odds, tf.stack([seed, taken]))
            # Before the game all rows are bare; in it every fourth.
            shown = tf.where(playing, 1.0 - bare, tf.zeros_like(bare))
            cells *= shown[:, tf.newaxis, tf.newaxis, tf.newaxis]
            logits = reader(cover([picture, cells]), training=True)
            reads = losses.masked_mean(losses.cross_entropy(logits, labels), known)
            covered = tf.logical_and(mask, shown > 0.0)
            leaves = losses.masked_mean(losses.confusion(logits), covered)
            leaves -= math.log(logits.shape[-1])
            area = losses.masked_mean(tf.reduce_mean(tf.sigmoid(odds), [1, 2, 3]), mask)
            beyond = tf.nn.relu(tf.abs(odds) - _MOST_ODDS)
            loss = leaves + price * area + _PULL * tf.reduce_mean(tf.square(beyond))
        of_reader.apply(tape.gradient(reads, reading), reading)
        share = tf.cast(playing, tf.float32)
        moves = tape.gradient(loss, finding)
        tf.cond(playing, lambda: _apply(of_mask, moves, finding), lambda: tf.constant(False))
        return {"reader_loss": reads, "mask_confusion": share * leaves, "mask_area": area}

    return step


def _apply(optimizer: keras.optimizers.Optimizer, gradients: list, variables: list) -> tf.Tensor:
    optimizer.apply(gradients, variables)
    return tf.constant(True)


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
            price=removal.mask_area_penalty,
            head_start=removal.mask_warmup_steps,
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
    if steps <= removal.mask_warmup_steps and not brought:
        raise UsageError(
            f"--region_epochs={removal.region_epochs}: {steps} steps, of which "
            f"--mask_warmup_steps={removal.mask_warmup_steps} pass before the mask learns; give "
            "more epochs or rows, or a smaller head start"
        )


def _steps_per_epoch(config: Config, dataset: Dataset) -> int:
    """About how many: public faces are drawn only when the phase begins."""
    if config.removal.region_labels == "public":
        rows = config.removal.region_rows - held_out(config.removal.region_rows)
    else:
        rows = int(np.sum(dataset.labels("train").private >= 0))
    return max(rows // _BATCH, 1)
