"""What a mask paints over: cells of a picture, whole or along one axis of colour."""

from __future__ import annotations

from typing import Any

import keras

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
