"""A mask that the encoder learns to lay over its own picture, so that what it covers never enters.

Source: paper, section 3.1 ("identifies and marks privacy-sensitive regions", "selectively masks
sensitive features"), of which it gives no formula. Here a small network gives every cell of the
picture a probability of being sensitive; likely ones are painted over before anything else sees
them. What is computed afterwards cannot bring back what was there.

What a mask paints over: cells of a picture, whole or along one axis of colour.

The reader that a mask is trained against: it says the private label of covered pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.layers import Layers, from_cells

PREFIX = "mask_"
_START = -2.0
_TEMPERATURE = 2.0 / 3.0


def masked(inputs: Any, *, cell: int, fill: str, width: int, seed: int, margin: int = 0) -> Any:
    """A picture with what the mask marks painted over, and the mask: `[B, S, S, 4]` float32.

    The mask is switched off at first, and its weights are not trainable: they are trained apart
    (training/region_steps.py), because no gradient passes the threshold. With the fill 'colour' the
    network that finds regions does not see the axis that is taken away either, so that the shape of
    what it covers hardly says what is along it.

    Args:
        inputs: a Keras input tensor, `[B, S, S, 3]` in [0, 1].
        cell: pixels along the side of a cell.
        fill: 'grey', 'mean' or 'colour', see `Cover`.
        width: channels of the network that finds regions.
        seed: of the initial weights.
        margin: cells around what is found that are covered, too.

    Raises:
        UsageError: the picture is not a whole number of pairs of cells of 2 pixels or more.
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
    """`[B, S, S, 3]` in [0, 1] -> log-odds `[B, S/cell, S/cell, 1]` that a cell is sensitive.

    Two scales: cells of at least 2 pixels by themselves, and their surroundings at half that
    resolution; a cell of one pixel is a part of such a cell. All layers' names start with `PREFIX`.

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
    """Layers of the mask by their short names."""

    def __init__(self, seed: int) -> None:
        self._layers = Layers(seed, "mask")

    def conv(self, filters: int, size: int, name: str, **options: Any) -> keras.layers.Layer:
        """`Layers.conv` under a name of the mask's."""
        return self._layers.conv(filters, size, f"{PREFIX}{name}", **options)

    def odds(self, parts: int) -> keras.layers.Layer:
        """The last layer: few cells are covered at the start."""
        return keras.layers.Conv2D(
            parts,
            1,
            kernel_initializer=self._layers.glorot_uniform(f"{PREFIX}score"),
            bias_initializer=keras.initializers.Constant(_START),
            name=f"{PREFIX}score",
        )


def tried_cells(odds: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Cells drawn by their probabilities, 0 or 1, with a gradient to their log-odds.

    A relaxed Bernoulli draw (Maddison et al. 2017, "The Concrete Distribution", section 3) that is
    rounded on the way forward only. The noise of each picture is scaled by a number in [0, 1] of
    its own: with all of it the mask tries cells out, with none it is the mask that is released.

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
    """The part of an encoder that finds regions: pictures -> log-odds.

    Raises:
        ValueError: the encoder has no mask.
    """
    return _until(encoder, "odds")


def mask_map(encoder: keras.Model) -> keras.Model:
    """The part of an encoder that covers: pictures -> cells, 1 where covered, all 0 while off.

    Raises:
        ValueError: the encoder has no mask.
    """
    return _until(encoder, "cells")


def cover_cells(encoder: keras.Model) -> Callable[[Any], Any]:
    """What the encoder does with [pictures, cells]: paints the cells over, `[B, S, S, 4]`.

    Raises:
        ValueError: the encoder has no mask.
    """
    cover, colour = encoder.get_layer(f"{PREFIX}cover"), colour_of(encoder)
    return cover if colour is None else lambda inputs: cover([*inputs, colour(inputs[0])])


def painted(encoder: keras.Model) -> keras.Model:
    """The part of an encoder that paints over: pictures -> `[B, S, S, 4]`.

    Raises:
        ValueError: the encoder has no mask.
    """
    return _until(encoder, "cover")


def colour_of(encoder: keras.Model) -> WithoutAxis | None:
    """The encoder's layer that takes an axis of colour away, or None where it has none."""
    return next((layer for layer in encoder.layers if isinstance(layer, WithoutAxis)), None)


def mask_cells(encoder: keras.Model) -> Cells:
    """The encoder's layer that says which cells are covered.

    Raises:
        ValueError: the encoder has no mask.
    """
    return encoder.get_layer(f"{PREFIX}cells")


def has_mask(encoder: keras.Model) -> bool:
    """Whether the encoder has a mask, on or off."""
    return any(isinstance(layer, Cells) for layer in encoder.layers)


def is_masked(encoder: keras.Model) -> bool:
    """Whether the encoder has a mask that is switched on."""
    return any(isinstance(layer, Cells) and float(layer.on) > 0 for layer in encoder.layers)


def switch_mask(encoder: keras.Model, *, on: bool) -> None:
    """Switches the mask on or off; nothing where the encoder has none."""
    for layer in encoder.layers:
        if isinstance(layer, Cells):
            layer.on.assign(1.0 if on else 0.0)


def _until(encoder: keras.Model, name: str) -> keras.Model:
    output = encoder.get_layer(f"{PREFIX}{name}").output
    return keras.Model(encoder.inputs[0], output, name=f"{PREFIX}{name}_part")


GREY = 0.5


class Cells(keras.layers.Layer):
    """Log-odds `[B, h, w, 1]` -> cells to cover, 0 or 1 float32; all 0 until it is switched on.

    A cell is covered where its odds are better than even, or those of a cell close to it are.

    Args:
        margin: how many cells around each such cell are covered, too.
    """

    def __init__(self, margin: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.margin = margin

    def build(self, input_shape: Any) -> None:
        """Its one weight says whether the mask is on: 0 or 1."""
        self.on = self.add_weight(name="on", shape=(), initializer="zeros", trainable=False)

    def call(self, odds: Any) -> Any:
        """See the class."""
        return self.marked(odds) * self.on

    def marked(self, odds: Any) -> Any:
        """As `call`, switched on or not."""
        cells = keras.ops.cast(odds > 0.0, odds.dtype)
        if not self.margin:
            return cells
        return keras.ops.max_pool(cells, 2 * self.margin + 1, strides=1, padding="same")

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "margin": self.margin}


class WithoutAxis(keras.layers.Layer):
    """Pictures `[B, S, S, 3]` in [0, 1] without their share of one axis of colour; as large.

    `x - ((x - grey) . u) u`, cut to [0, 1], with the one weight u `[3]`, of length 1; at 0, as it
    starts, nothing is taken. What is along u never enters: two pictures that differ only there
    give the same result (up to rounding).
    """

    def build(self, input_shape: Any) -> None:
        """See the class."""
        self.axis = self.add_weight(name="axis", shape=(3,), initializer="zeros", trainable=False)

    def call(self, image: Any) -> Any:
        """See the class."""
        share = keras.ops.sum((image - GREY) * self.axis, axis=-1, keepdims=True)
        return keras.ops.clip(image - share * self.axis, 0.0, 1.0)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's."""
        return input_shape


class Cover(keras.layers.Layer):
    """Pictures `[B, S, S, 3]` in [0, 1] and cells `[B, S/cell, S/cell, 1]` -> `[B, S, S, 4]`.

    Covered pixels are painted over, and the fourth channel is 1 there.

    Args:
        cell: pixels along the side of a cell.
        fill: 'grey'; 'mean' for the mean colour of all covered pixels of the picture; or 'colour'
            for what is handed over as a third input, `[B, S, S, 3]`: the picture `WithoutAxis`.
            With the first nothing of what is covered passes; with the second, three numbers per
            picture; with the third, two of three numbers per pixel.
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
        """One colour for each picture."""
        grey = GREY * keras.ops.ones_like(image[:, :1, :1])
        if self.fill == "grey":
            return grey
        count = keras.ops.sum(pixels, axis=(1, 2), keepdims=True)
        total = keras.ops.sum(image * pixels, axis=(1, 2), keepdims=True)
        return keras.ops.where(count > 0.0, total / keras.ops.maximum(count, 1.0), grey)

    def get_config(self) -> dict[str, Any]:
        """For Keras."""
        return {**super().get_config(), "cell": self.cell, "fill": self.fill}


_MOST_CELLS = 32


def build_region_reader(image_size: int, classes: int, *, width: int, seed: int) -> keras.Model:
    """Covered pictures `[B, S, S, 4]` (models/mask.py) -> logits `[B, classes]`, both float32.

    Small patterns at full resolution and the maximum of each over all places: it finds a small
    detail within some hundred steps. Its BatchNorm makes it quick, and is allowed because it is
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
    while x.shape[1] > _MOST_CELLS:
        x = _block(layers, x, width, 3, 2, f"down{x.shape[1]}")
    x = _block(layers, x, 2 * width, 3, 1, "second")
    x = _block(layers, x, 2 * width, 3, 1, "third")
    x = keras.layers.GlobalMaxPooling2D(name="anywhere")(x)
    return keras.Model(inputs, layers.dense(classes, "logits")(x), name="region_reader")


def _block(layers: Layers, x: Any, channels: int, size: int, strides: int, name: str) -> Any:
    x = layers.conv(channels, size, name, strides=strides, use_bias=False)(x)
    x = keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)
