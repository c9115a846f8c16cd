"""Moves pixels into a cell's channels and back, so that a feature map can carry a picture."""

from __future__ import annotations

from typing import Any

import keras


def to_cells(image: Any, stride: int, name: str) -> Any:
    """Pictures `[B, S, S, c]` -> `[B, S/stride, S/stride, stride*stride*c]`, as Keras layers.

    Args:
        image: a Keras tensor.
        stride: pixels along the side of a cell.
        name: start of the layers' names.
    """
    size, channels = image.shape[1], image.shape[3]
    cells = size // stride
    x = keras.layers.Reshape((cells, stride, cells, stride, channels), name=f"{name}_split")(image)
    x = keras.layers.Permute((1, 3, 2, 4, 5), name=f"{name}_in_place")(x)
    shape = (cells, cells, stride * stride * channels)
    return keras.layers.Reshape(shape, name=f"{name}_cells")(x)


def from_cells(cells: Any, stride: int, name: str) -> Any:
    """`[B, h, w, stride*stride*c]` -> pictures `[B, h*stride, w*stride, c]`: undoes `to_cells`.

    Args:
        cells: a Keras tensor.
        stride: pixels along the side of a cell.
        name: start of the layers' names; the last one's name is `<name>_image`.
    """
    rows, columns, size = cells.shape[1:]
    channels = size // stride**2
    x = keras.layers.Reshape((rows, columns, stride, stride, channels), name=f"{name}")(cells)
    x = keras.layers.Permute((1, 3, 2, 4, 5), name=f"{name}_in_place")(x)
    shape = (rows * stride, columns * stride, channels)
    return keras.layers.Reshape(shape, name=f"{name}_image")(x)
