"""Mask: an encoder covers image cells that reveal the private label before it sees them.

Source: paper, section 3.1 ("identifies and marks privacy-sensitive regions", "selectively masks
sensitive features"), which gives no formula. Here a small network gives every cell of the image a
probability of being sensitive, and likely ones are painted over before any other layer sees them.
Nothing computed afterwards can bring back what was there. This module has the layers;
mask_training.py trains them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.layers import Layers, first_layer, from_cells

PREFIX = "mask_"
GREY = 0.5
_START = -2.0
_TEMPERATURE = 2.0 / 3.0


def masked(inputs: Any, *, cell: int, fill: str, width: int, seed: int, margin: int = 0) -> Any:
    """Paints over the cells that the mask marks: `[B, S, S, 4]` float32, image and mask.

    The mask is off at first. Its weights are not trainable, because no gradient passes the
    threshold; mask_training.py trains them separately. With the fill 'colour' the network that
    finds regions does not see the removed colour axis either, so that the shape of the covered
    region reveals little about it.

    Args:
        inputs: a Keras input tensor, `[B, S, S, 3]` in [0, 1].
        cell: pixels along the side of a cell.
        fill: 'grey', 'mean' or 'colour', see `Cover`.
        width: channels of the network that finds regions.
        seed: of the initial weights.
        margin: number of cells around each marked cell that are covered as well.

    Raises:
        UsageError: the image size is not a multiple of two cells of at least 2 pixels.
    """
    size = inputs.shape[1]
    if size % (2 * max(cell, 2)):
        raise UsageError(
            f"--mask_cell={cell}: --image_size={size} must be a multiple of {2 * max(cell, 2)}"
        )
    colour = [WithoutAxis(name=f"{PREFIX}colour")(inputs)] if fill == "colour" else []
    odds = find_regions(colour[0] if colour else inputs, cell=cell, width=width, seed=seed)
    for layer in keras.Model(inputs, odds).layers:
        layer.trainable = False
    cells = Cells(margin, name=f"{PREFIX}cells")(odds)
    return Cover(cell, fill, name=f"{PREFIX}cover")([inputs, cells, *colour])


def find_regions(inputs: Any, *, cell: int, width: int, seed: int) -> Any:
    """Maps `[B, S, S, 3]` to the log-odds `[B, S/cell, S/cell, 1]` that a cell is sensitive.

    Works at two scales: cells of at least 2 pixels, and their surroundings at half that resolution.
    Cells of one pixel are parts of such a cell. The names of all layers start with `PREFIX`.

    Args:
        inputs: a Keras input tensor.
        cell: pixels along the side of a cell; S must be a multiple of 4 and of 2 * cell.
        width: channels.
        seed: of the initial weights.
    """
    layers = _Named(seed)
    x = keras.layers.Rescaling(2.0, -1.0, name=f"{PREFIX}scale")(inputs)
    stride = max(cell, 2)
    x = layers.conv(width, stride + 1, "first", strides=stride, activation="relu")(x)
    near = layers.conv(width, 3, "near", activation="relu")(x)
    x = layers.conv(2 * width, 3, "down", strides=2, activation="relu")(near)
    x = layers.conv(2 * width, 3, "around1", dilation=2, activation="relu")(x)
    x = layers.conv(2 * width, 3, "around2", activation="relu")(x)
    x = layers.conv(width, 1, "around3")(x)
    x = keras.layers.UpSampling2D(2, interpolation="bilinear", name=f"{PREFIX}up")(x)
    beside = layers.conv(width, 1, "beside")(near)
    x = keras.layers.Add(name=f"{PREFIX}add")([beside, x])
    x = keras.layers.ReLU(name=f"{PREFIX}add_relu")(x)
    x = layers.conv(width, 3, "together", activation="relu")(x)
    x = layers.odds((stride // cell) ** 2)(x)
    if cell < stride:
        x = from_cells(x, stride // cell, f"{PREFIX}parts")
    return keras.layers.Activation("linear", name=f"{PREFIX}odds")(x)


class _Named:
    """Makes the layers of the mask by their short names."""

    def __init__(self, seed: int) -> None:
        self._layers = Layers(seed, "mask")

    def conv(self, filters: int, size: int, name: str, **options: Any) -> keras.layers.Layer:
        """Makes `Layers.conv` with `PREFIX` before the name."""
        return self._layers.conv(filters, size, f"{PREFIX}{name}", **options)

    def odds(self, parts: int) -> keras.layers.Layer:
        """Makes the last layer; its bias covers few cells at the start."""
        return keras.layers.Conv2D(
            parts,
            1,
            kernel_initializer=self._layers.glorot_uniform(f"{PREFIX}score"),
            bias_initializer=keras.initializers.Constant(_START),
            name=f"{PREFIX}score",
        )


def tried_cells(odds: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draws cells by their probabilities, 0 or 1, with a gradient to their log-odds.

    A relaxed Bernoulli draw (Maddison et al. 2017, "The Concrete Distribution", section 3), rounded
    in the forward pass only. Each image scales its noise by its own random number in [0, 1]: at 1
    the mask explores, at 0 it is the mask that will be released.

    Args:
        odds: `[B, h, w, 1]` float32 log-odds.
        seed: `[2]` int32; the same seed gives the same draw.

    Returns:
        `[B, h, w, 1]` float32, 0 or 1.
    """
    count = tf.shape(odds)[0]
    uniform = tf.random.stateless_uniform(tf.shape(odds), seed, 1e-4, 1.0 - 1e-4)
    scale = tf.random.stateless_uniform((count, 1, 1, 1), seed + tf.constant([0, 1 << 30]))
    noise = scale * (tf.math.log(uniform) - tf.math.log1p(-uniform))
    soft = tf.sigmoid((odds + noise) / _TEMPERATURE)
    return soft + tf.stop_gradient(tf.cast(odds + noise > 0.0, soft.dtype) - soft)


def region_finder(encoder: keras.Model) -> keras.Model:
    """Returns the part of an encoder that finds regions: images -> log-odds.

    Raises:
        ValueError: the encoder has no mask.
    """
    return _until(encoder, "odds")


def mask_map(encoder: keras.Model) -> keras.Model:
    """Returns images -> covered cells, 1 where covered; all 0 while the mask is off.

    Raises:
        ValueError: the encoder has no mask.
    """
    return _until(encoder, "cells")


def cover_cells(encoder: keras.Model) -> Callable[[Any], Any]:
    """Returns the function that covers an encoder's images: [images, cells] -> `[B, S, S, 4]`.

    Raises:
        ValueError: the encoder has no mask.
    """
    cover, colour = encoder.get_layer(f"{PREFIX}cover"), first_layer(encoder, WithoutAxis)
    return cover if colour is None else lambda inputs: cover([*inputs, colour(inputs[0])])


def painted(encoder: keras.Model) -> keras.Model:
    """Returns the part of an encoder that covers: images -> covered images `[B, S, S, 4]`.

    Raises:
        ValueError: the encoder has no mask.
    """
    return _until(encoder, "cover")


def mask_cells(encoder: keras.Model) -> Cells:
    """Returns the encoder's layer that decides which cells are covered.

    Raises:
        ValueError: the encoder has no mask.
    """
    return encoder.get_layer(f"{PREFIX}cells")


def has_mask(encoder: keras.Model) -> bool:
    """Returns True if the encoder has a mask, on or off."""
    return any(isinstance(layer, Cells) for layer in encoder.layers)


def is_masked(encoder: keras.Model) -> bool:
    """Returns True if the encoder has a mask that is on."""
    return any(isinstance(layer, Cells) and float(layer.on) > 0 for layer in encoder.layers)


def switch_mask(encoder: keras.Model, *, on: bool) -> None:
    """Switches the mask on or off; does nothing if the encoder has none."""
    for layer in encoder.layers:
        if isinstance(layer, Cells):
            layer.on.assign(1.0 if on else 0.0)


def _until(encoder: keras.Model, name: str) -> keras.Model:
    output = encoder.get_layer(f"{PREFIX}{name}").output
    return keras.Model(encoder.inputs[0], output, name=f"{PREFIX}{name}_part")


class Cells(keras.layers.Layer):
    """Log-odds `[B, h, w, 1]` -> cells to cover, 0 or 1 float32; all 0 until it is switched on.

    A cell is covered if its odds, or those of a cell within the margin, are better than even.

    Args:
        margin: number of cells around each such cell that are covered as well.
    """

    def __init__(self, margin: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin = margin

    def build(self, input_shape: Any) -> None:
        """Adds its one weight: 1 if the mask is on, else 0."""
        self.on = self.add_weight(name="on", shape=(), initializer="zeros", trainable=False)

    def call(self, odds: Any) -> Any:
        """See the class."""
        return self.marked(odds) * self.on

    def marked(self, odds: Any) -> Any:
        """Returns the cells to cover as if the mask were on."""
        cells = keras.ops.cast(odds > 0.0, odds.dtype)
        if not self.margin:
            return cells
        return keras.ops.max_pool(cells, 2 * self.margin + 1, strides=1, padding="same")

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "margin": self.margin}


class WithoutAxis(keras.layers.Layer):
    """Removes one colour axis from images `[B, S, S, 3]` in [0, 1]; keeps their shape.

    `x - ((x - grey) . u) u`, clipped to [0, 1], with the one weight u `[3]`, of length 1. It starts
    at 0, where nothing is removed. Two images that differ only along u give the same result (up to
    rounding).
    """

    def build(self, input_shape: Any) -> None:
        """See the class."""
        self.axis = self.add_weight(name="axis", shape=(3,), initializer="zeros", trainable=False)

    def call(self, image: Any) -> Any:
        """See the class."""
        share = keras.ops.sum((image - GREY) * self.axis, axis=-1, keepdims=True)
        return keras.ops.clip(image - share * self.axis, 0.0, 1.0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns the input's shape."""
        return input_shape


class Cover(keras.layers.Layer):
    """Images `[B, S, S, 3]` in [0, 1] and cells `[B, S/cell, S/cell, 1]` -> `[B, S, S, 4]`.

    Covered pixels are painted over; the fourth channel is 1 there.

    Args:
        cell: pixels along the side of a cell.
        fill: 'grey'; 'mean' for the mean colour of all covered pixels of the image; or 'colour' for
            a third input, `[B, S, S, 3]`: the image after `WithoutAxis`. Of the covered pixels,
            nothing passes with 'grey', three numbers per image with 'mean', and two of three
            numbers per pixel with 'colour'.
    """

    def __init__(self, cell: int, fill: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.cell, self.fill = cell, fill

    def call(self, inputs: Any) -> Any:
        """See the class."""
        image, cells, *paint = inputs
        pixels = keras.ops.repeat(keras.ops.repeat(cells, self.cell, axis=1), self.cell, axis=2)
        instead = paint[0] if self.fill == "colour" else self._flat(image, pixels)
        covered = image * (1.0 - pixels) + instead * pixels
        return keras.ops.concatenate([covered, pixels], axis=-1)

    def _flat(self, image: Any, pixels: Any) -> Any:
        """Returns one colour for each image."""
        grey = GREY * keras.ops.ones_like(image[:, :1, :1])
        if self.fill == "grey":
            return grey
        count = keras.ops.sum(pixels, axis=(1, 2), keepdims=True)
        total = keras.ops.sum(image * pixels, axis=(1, 2), keepdims=True)
        return keras.ops.where(count > 0.0, total / keras.ops.maximum(count, 1.0), grey)

    def get_config(self) -> dict[str, Any]:
        """Returns the constructor's arguments."""
        return {**super().get_config(), "cell": self.cell, "fill": self.fill}
