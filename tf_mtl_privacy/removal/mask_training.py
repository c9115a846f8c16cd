"""Mask: the phase in which an encoder's mask learns what to cover, and the method itself.

The paper (section 3.1) marks and masks regions but does not describe how. Here a reader learns the
private label from covered images, and the mask learns to hide it from the reader, at a price for
every covered cell: min over masks of `H(uniform, reader(covered image)) - log K + price * area`.
With the fill 'colour' the colour axis that reveals the private label is found first, in closed
form.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import chi2

from tf_mtl_privacy.config import Config, RemovalConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.data.sampling import ShuffledEpochs
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models import losses
from tf_mtl_privacy.models.layers import Layers, first_layer, layer_seed
from tf_mtl_privacy.removal.base import (
    NOTHING,
    PUBLIC,
    TRAIN,
    Fitting,
    RemovalMethod,
    held_out,
    public_faces,
)
from tf_mtl_privacy.removal.mask import (
    PREFIX,
    Cover,
    WithoutAxis,
    cover_cells,
    is_masked,
    mask_cells,
    masked,
    region_finder,
    switch_mask,
    tried_cells,
)
from tf_mtl_privacy.types import Phase

Array = np.ndarray[Any, Any]
RegionStep = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]
NAME = "regions"
# Small batches, because the number of steps decides how well the mask is learned.
_BATCH, _VALIDATION_BATCH = 64, 250
_READER_RATE, _LAST_RATE = 3.0, 0.1
# One in this many rows stays uncovered, so that the reader keeps seeing the label.
_BARE_SHARE = 4
# Log-odds beyond this are pulled back, or a cell that is certain would never change again.
_MAX_ODDS = 4.0
_PULL = 1e-3
# The reader's feature map has at most this many cells a side.
_MAX_CELLS = 32
# A position counts if so large a difference between classes has this chance without a label.
_CHANCE = 0.05
_FLOOR = 1e-9


class MaskMethod(RemovalMethod):
    """A learned mask over the image, trained in a phase of its own before the discriminator's."""

    name = "mask"
    prefix = PREFIX

    def is_on(self, removal: RemovalConfig) -> bool:
        """See `RemovalMethod`."""
        return removal.has_mask

    def fitted_to(self, removal: RemovalConfig) -> str:
        """See `RemovalMethod`."""
        if not self.is_on(removal):
            return NOTHING
        return TRAIN if removal.region_labels == "train" else PUBLIC

    def label_access(self, removal: RemovalConfig) -> str:
        """See `RemovalMethod`."""
        source, colour = self.fitted_to(removal), removal.mask_fill == "colour"
        if source == TRAIN:
            who = "reader and its colour axis learn" if colour else "reader learns"
            return f"the mask's {who} the labels of training rows"
        if source == PUBLIC:
            axis = " and its colour axis" if colour else ""
            faces = f"{removal.region_rows:,} synthetic faces of no real person"
            return f"the mask's reader{axis}: {faces}"
        return ""

    def record(self, removal: RemovalConfig, *, on: bool) -> Mapping[str, Any]:
        """Returns the kind of mask; 'none' without one."""
        return {"mask": removal.mask if on else "none"}

    def on_image(self, image: Any, removal: RemovalConfig, seed: int) -> tuple[Any, Any]:
        """See `masked`."""
        covered = masked(
            image,
            cell=removal.mask_cell,
            fill=removal.mask_fill,
            width=removal.mask_width,
            seed=seed,
            margin=removal.mask_margin,
        )
        return covered[..., :3], covered[..., 3:]

    def phases(self, removal: RemovalConfig) -> dict[str, int]:
        """See `RemovalMethod`."""
        return {NAME: removal.region_epochs}

    def fitting(self, config: Config, dataset: Dataset, encoder: keras.Model) -> Fitting:
        """See `MaskFitting`."""
        return MaskFitting(config, dataset, encoder)

    def enter(self, encoder: keras.Model, *, fitted: bool) -> None:
        """Covers nothing until the mask is trained."""
        switch_mask(encoder, on=fitted)

    def release(self, encoder: keras.Model) -> None:
        """Switches the mask on."""
        switch_mask(encoder, on=True)

    def disabled(self, encoder: keras.Model) -> contextlib.AbstractContextManager[None]:
        """Temporarily switches the mask off."""
        return _switched_off(encoder)


@contextlib.contextmanager
def _switched_off(encoder: keras.Model) -> Iterator[None]:
    on = is_masked(encoder)
    switch_mask(encoder, on=False)
    try:
        yield
    finally:
        switch_mask(encoder, on=on)


class MaskFitting(Fitting):
    """The mask, its reader and their optimizers.

    The reader is never released: it is deleted with the checkpoints.

    Args:
        config: the run's configuration.
        dataset: the run's rows; their private labels are read only with `--region_labels=train`.
        encoder: an encoder with a mask.

    Raises:
        UsageError: the phase ends before the mask learns.
    """

    def __init__(self, config: Config, dataset: Dataset, encoder: keras.Model) -> None:
        super().__init__()
        self._config, self._own = config, dataset
        self._public: Dataset | None = None
        seed, removal = config.train.seed, config.removal
        steps_per_epoch = _steps_per_epoch(config, dataset)
        _check_length(config, steps_per_epoch)
        self._finder, self._colour = region_finder(encoder), first_layer(encoder, WithoutAxis)
        self._cells = mask_cells(encoder)
        # The mask learns its place with grey paint: where colours pass, the reader's gradient does
        # not show which cells carry the label.
        grey = Cover(removal.mask_cell, "grey")
        self._cover = cover_cells(encoder) if self._colour is None else grey
        self._reader = build_region_reader(
            dataset.image_size,
            len(dataset.private_classes),
            width=removal.mask_width,
            seed=seed,
        )
        # Decayed to a tenth, so that the mask's edges settle and do not follow the last batch.
        steps = max(removal.region_epochs * steps_per_epoch, 1)
        rate = removal.region_learning_rate
        mask, reader = (
            keras.optimizers.Adam(
                keras.optimizers.schedules.CosineDecay(first, steps, alpha=_LAST_RATE)
            )
            for first in (rate, _READER_RATE * rate)
        )
        self.optimizers = {"mask": mask, "region_reader": reader}
        self.networks = {"region_reader": self._reader.variables}
        self._step = make_region_step(
            self._finder,
            self._reader,
            self._cover,
            (mask, reader),
            price=removal.mask_area_penalty,
            warmup_steps=removal.mask_warmup_steps,
            seed=layer_seed(seed, "regions/draws"),
        )
        self._read = tf.function(self._read_covered, autograph=False)

    def phase(self, name: str, epochs: int) -> Phase:
        """Builds the mask's phase, on labels of public faces or, if so configured, training rows.

        Raises:
            UsageError: the public faces have other private classes than the data set.
        """
        data = self._data()
        rows = data.rows["train"]
        labelled = np.flatnonzero(data.labels("train").private >= 0)
        seed = layer_seed(self._config.train.seed, "regions/order")
        sampler = ShuffledEpochs(labelled, _BATCH, seed, drop_ragged=len(labelled) > _BATCH)

        def inputs(epoch: int, step: int) -> tuple[tf.Tensor, ...]:
            positions, mask = sampler.batch(epoch, step)
            batch = data.batch(rows[positions[mask]], capacity=len(positions))
            return tuple(map(tf.convert_to_tensor, (batch.image, batch.private, batch.mask)))

        return Phase(
            name,
            epochs,
            sampler.steps_per_epoch,
            inputs,
            lambda batch: self._step(*batch),
            self._measure,
            self._find_colour,
        )

    def _find_colour(self, epoch: int) -> None:
        """Finds, before the first epoch, the colour axis that the mask removes, if any."""
        if self._colour is None or epoch:
            return
        data = self._data()
        rows = data.rows["train"]
        known = rows[data.labels_of(rows).private >= 0]
        try:
            axis = colour_axis(_images(data, known), len(self._own.private_classes))
        except ValueError as error:
            raise UsageError(
                f"--mask_fill=colour: {len(known)} labelled rows are too few to find the colour "
                "axis that tells their classes apart; give more rows, or --mask_fill=grey"
            ) from error
        self._colour.axis.assign(axis)

    def _data(self) -> Dataset:
        if self._config.removal.region_labels == "train":
            return self._own
        if self._public is None:
            classes = tuple(self._own.private_classes)
            self._public = public_faces(self._config, "region_labels", classes)
        return self._public

    def _measure(self) -> dict[str, float]:
        """Returns the reader's accuracy on held-out rows under the final mask, and the area."""
        hits, area, count = 0.0, 0.0, 0
        data = self._data()
        rows = data.rows["validation"]
        for images, labels in _images(data, rows[data.labels_of(rows).private >= 0]):
            logits, covered = self._read(tf.convert_to_tensor(images))
            hits += float(np.sum(np.argmax(logits, -1) == labels))
            area += float(np.sum(covered))
            count += len(labels)
        return {"region_reader_accuracy": hits / count, "mask_area": area / count} if count else {}

    def _read_covered(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = to_float(images)
        cells = self._cells.marked(self._finder(image))
        logits = self._reader(self._cover([image, cells]), training=False)
        return logits, tf.reduce_mean(cells, [1, 2, 3])


def _images(data: Dataset, rows: Array) -> Iterator[tuple[Array, Array]]:
    """Yields images and private labels of rows, in batches."""
    for start in range(0, len(rows), _VALIDATION_BATCH):
        part = rows[start : start + _VALIDATION_BATCH]
        yield data.store.images(part), data.labels_of(part).private


def _check_length(config: Config, steps_per_epoch: int) -> None:
    """Refuses a phase without mask updates: an untrained mask would be reported as learned."""
    removal = config.removal
    steps = removal.region_epochs * steps_per_epoch
    if steps <= removal.mask_warmup_steps and not config.model.backbone:
        raise UsageError(
            f"--region_epochs={removal.region_epochs}: its {steps} steps end before the mask "
            f"learns, after --mask_warmup_steps={removal.mask_warmup_steps}; give more epochs or "
            "rows, or fewer warm-up steps"
        )


def _steps_per_epoch(config: Config, dataset: Dataset) -> int:
    """Estimates an epoch's steps: public faces are drawn only when the phase begins."""
    if config.removal.region_labels == "public":
        rows = config.removal.region_rows - held_out(config.removal.region_rows)
    else:
        rows = int(np.sum(dataset.labels("train").private >= 0))
    return max(rows // _BATCH, 1)


def make_region_step(
    finder: keras.Model,
    reader: keras.Model,
    cover: Callable[[Any], Any],
    optimizers: tuple[keras.optimizers.Optimizer, keras.optimizers.Optimizer],
    *,
    price: float,
    warmup_steps: int,
    seed: int,
) -> RegionStep:
    """Makes one update of the mask and of the reader that it is trained against.

    The step takes images `[B, S, S, 3]` uint8, labels `[B]` int32 (-1 unknown) and a mask `[B]`
    bool. It updates both networks at once, the reader by its cross-entropy and the mask by its own
    loss. All draws follow from `seed` and the number of updates taken, so that a resumed run
    continues with the same ones.

    Args:
        finder: images -> log-odds (`mask.region_finder`).
        reader: covered images -> logits.
        cover: paints cells over (`mask.cover_cells`).
        optimizers: of the mask and of the reader.
        price: nats for covering a whole image.
        warmup_steps: steps in which only the reader learns.
        seed: of the draws.
    """
    of_mask, of_reader = optimizers
    # The colour axis was found in closed form and stays as it is.
    moving = [layer for layer in finder.layers if not isinstance(layer, WithoutAxis)]
    finding = [weight for layer in moving for weight in layer.weights]
    reading = reader.trainable_variables
    of_mask.build(finding)
    of_reader.build(reading)

    @tf.function(autograph=False, reduce_retracing=True)
    def step(image: tf.Tensor, labels: tf.Tensor, mask: tf.Tensor) -> dict[str, tf.Tensor]:
        scaled, known = to_float(image), tf.logical_and(mask, labels >= 0)
        taken = tf.cast(of_reader.iterations, tf.int32)
        playing = taken >= warmup_steps
        bare = tf.cast(tf.range(tf.shape(labels)[0]) % _BARE_SHARE == 0, tf.float32)
        with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in (*finding, *reading)])
            odds = finder(scaled)
            cells = tried_cells(odds, tf.stack([seed, taken]))
            # During the warm-up no row is covered; afterwards all but every fourth.
            shown = tf.where(playing, 1.0 - bare, tf.zeros_like(bare))
            cells *= shown[:, tf.newaxis, tf.newaxis, tf.newaxis]
            logits = reader(cover([scaled, cells]), training=True)
            reads = losses.masked_mean(losses.cross_entropy(logits, labels), known)
            covered = tf.logical_and(mask, shown > 0.0)
            leaves = losses.masked_mean(losses.confusion(logits), covered)
            leaves -= math.log(logits.shape[-1])
            area = losses.masked_mean(tf.reduce_mean(tf.sigmoid(odds), [1, 2, 3]), mask)
            beyond = tf.nn.relu(tf.abs(odds) - _MAX_ODDS)
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


def build_region_reader(image_size: int, classes: int, *, width: int, seed: int) -> keras.Model:
    """Builds covered images `[B, S, S, 4]` -> logits `[B, classes]` of the private label, float32.

    Takes the maximum of small patterns over all positions, so that it finds a small detail within
    some hundred steps. Its BatchNorm makes it learn fast, and is allowed because the reader is
    never trained under differential privacy.

    Args:
        image_size: S; halved until there are at most 32 cells a side.
        classes: K.
        width: channels of the first layer; the others have twice as many.
        seed: of the initial weights.
    """
    layers = Layers(seed, "region_reader")
    inputs = x = keras.Input((image_size, image_size, 4), name="covered")
    x = _block(layers, x, width, 5, 2, "first")
    while x.shape[1] > _MAX_CELLS:
        x = _block(layers, x, width, 3, 2, f"down{x.shape[1]}")
    x = _block(layers, x, 2 * width, 3, 1, "second")
    x = _block(layers, x, 2 * width, 3, 1, "third")
    x = keras.layers.GlobalMaxPooling2D(name="anywhere")(x)
    return keras.Model(inputs, layers.dense(classes, "logits")(x), name="region_reader")


def _block(layers: Layers, x: Any, channels: int, size: int, strides: int, name: str) -> Any:
    x = layers.conv(channels, size, name, strides=strides, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def colour_axis(batches: Iterable[tuple[Array, Array]], classes: int) -> Array:
    """Finds the colour axis along which the classes' mean images differ most.

    At each position p, with n_k images of class k and their mean m_k(p), the between-class scatter
    B_p = sum_k n_k (m_k - m)(m_k - m)^T has the mean (K - 1) W_p if colour is independent of the
    class, W_p being the covariance within classes. The axis is the leading eigenvector of
    sum_p (B_p - (K - 1) W_p) / tr W_p over the positions at which trace(W_p^-1 B_p), which would
    then be about chi-squared with 3 (K - 1) degrees of freedom, is above its 95 % point; over all
    positions if there is none.

    Source: the between-class scatter of Fisher's discriminant (Fisher 1936, "The Use of Multiple
    Measurements in Taxonomic Problems"), of colours instead of whole images, minus what chance
    adds to it. Removing the axis is linear erasure as in LEACE (Belrose et al. 2023), restricted to
    one direction that all pixels share.

    Args:
        batches: images `[n, S, S, 3]` uint8 and classes `[n]` in [0, K); at least two classes, and
            more images than classes.
        classes: K >= 2.

    Returns:
        `[3]` float32 of length 1, red, green, blue, with a positive largest entry.

    Raises:
        ValueError: too few images.
    """
    counts, sums, squares = _moments(batches, classes)
    total, known = counts.sum(), counts > 0
    if known.sum() < 2 or total <= known.sum():
        raise ValueError(f"Expected two classes and more images than classes, got {counts}")
    means = sums[known] / counts[known, None, None, None]
    between = _weighted(counts[known], means - sums.sum(0) / total)
    within = (squares - _weighted(counts[known], means)) / (total - known.sum())
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
    """Returns images of each class `[K]`, their sum `[K, S, S, 3]`, all products `[S, S, 3, 3]`."""
    counts, sums, squares = np.zeros(classes), np.zeros(()), np.zeros(())
    for images, labels in batches:
        image = images.astype(np.float32) / 255.0
        if not sums.ndim:
            sums = np.zeros((classes, *image.shape[1:]))
        for number in np.unique(labels):
            sums[number] += image[labels == number].sum(0)
        counts += np.bincount(labels, minlength=classes)
        squares = squares + np.einsum("nhwc,nhwd->hwcd", image, image)
    return counts, sums, squares


def _weighted(counts: Array, means: Array) -> Array:
    """Returns `sum_k n_k m_k m_k^T` at each position."""
    return np.einsum("k,khwc,khwd->hwcd", counts, means, means)
