"""Layers of all networks, with initial weights that depend only on a seed and a name.

The seed is passed to each initialiser instead of being set globally: a global seed would also fix
the noise of differentially private training.
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import keras

from tf_mtl_privacy.errors import UsageError

Kind = TypeVar("Kind", bound=keras.layers.Layer)
_MAX_GROUPS = 8
_MIN_CHANNELS_PER_GROUP = 8
_EPSILON = 1e-5


def layer_seed(seed: int, name: str) -> int:
    """Returns a seed in [0, 2^31) for one layer, the same for the same run seed and layer name."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF


class Layers:
    """Makes named layers whose initial weights follow from `seed` and the layer's name.

    Args:
        seed: the run's seed.
        model: the name of the model the layers are for, so that two models differ.
    """

    def __init__(self, seed: int, model: str) -> None:
        self._seed, self._model = seed, model

    def he_normal(self, name: str) -> keras.initializers.Initializer:
        """Returns the initializer of He et al. 2015, section 2.2, for weights before a ReLU."""
        return keras.initializers.HeNormal(seed=layer_seed(self._seed, f"{self._model}/{name}"))

    def glorot_uniform(self, name: str) -> keras.initializers.Initializer:
        """Returns the initializer of Glorot and Bengio 2010, equation 16, for logits."""
        return keras.initializers.GlorotUniform(
            seed=layer_seed(self._seed, f"{self._model}/{name}")
        )

    def conv(
        self,
        filters: int,
        size: int,
        name: str,
        *,
        strides: int = 1,
        dilation: int = 1,
        activation: str | None = None,
        use_bias: bool = True,
        from_zero: bool = False,
    ) -> keras.layers.Layer:
        """Makes a convolution with zero padding; all initial weights are 0 if `from_zero`."""
        return keras.layers.Conv2D(
            filters,
            size,
            strides=strides,
            dilation_rate=dilation,
            padding="same",
            activation=activation,
            use_bias=use_bias,
            kernel_initializer="zeros" if from_zero else self.he_normal(name),
            name=name,
        )

    def dense(self, units: int, name: str, *, activation: str | None = None) -> keras.layers.Layer:
        """Makes a fully connected layer with bias."""
        make = self.glorot_uniform if activation is None else self.he_normal
        return keras.layers.Dense(
            units, activation=activation, kernel_initializer=make(name), name=name
        )


def group_norm(channels: int, name: str, *, groups: int | None = None) -> keras.layers.Layer:
    """Makes group normalisation (Wu and He 2018): statistics of one example, never of the batch."""
    return keras.layers.GroupNormalization(
        groups or norm_groups(channels), epsilon=_EPSILON, name=name
    )


def norm_groups(channels: int) -> int:
    """Returns the largest divisor of `channels`, at most 8, with at least 8 channels a group."""
    fitting = [
        groups
        for groups in range(1, _MAX_GROUPS + 1)
        if channels % groups == 0 and channels // groups >= _MIN_CHANNELS_PER_GROUP
    ]
    return max(fitting, default=1)


def convolution_block(
    layers: Layers, x: Any, channels: int, *, strides: int, number: int | str
) -> Any:
    """Applies a 3x3 convolution, group normalisation and ReLU; layers `conv<number>` and so on."""
    x = layers.conv(channels, 3, f"conv{number}", strides=strides)(x)
    x = group_norm(channels, f"norm{number}")(x)
    return keras.layers.Activation("relu", name=f"relu{number}")(x)


def halvings(cells: int, *, limit: int = 4) -> int:
    """Counts the halvings, rounding up, that bring `cells` along a side to at most `limit`."""
    count = 0
    while cells > limit:
        cells, count = -(-cells // 2), count + 1
    return count


def to_cells(image: Any, stride: int, name: str) -> Any:
    """Moves pixels into channels: `[B, S, S, c]` -> `[B, S/stride, S/stride, stride*stride*c]`.

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
    """Undoes `to_cells`: `[B, h, w, stride*stride*c]` -> images `[B, h*stride, w*stride, c]`.

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


def first_layer(model: keras.Model, kind: type[Kind]) -> Kind | None:
    """Returns the model's first layer of a class, or None if it has none."""
    return next((layer for layer in model.layers if isinstance(layer, kind)), None)


def check_keras_settings() -> None:
    """Checks that Keras computes in float32, channels last, with TensorFlow.

    The commands set this themselves. In Python the settings belong to the caller and are not
    changed.

    Raises:
        UsageError: naming the setting, its value, and the call that sets it.
    """
    for name, value, wanted, remedy in (
        ("backend", keras.config.backend(), "tensorflow", "set KERAS_BACKEND=tensorflow"),
        (
            "image_data_format",
            keras.config.image_data_format(),
            "channels_last",
            "call keras.config.set_image_data_format('channels_last')",
        ),
        ("floatx", keras.config.floatx(), "float32", "call keras.config.set_floatx('float32')"),
        (
            "dtype_policy",
            keras.config.dtype_policy().name,
            "float32",
            "call keras.config.set_dtype_policy('float32')",
        ),
    ):
        if value != wanted:
            raise UsageError(
                f"Keras's {name} is {value}, expected {wanted}: {remedy} first, or change it in "
                "Keras's keras.json"
            )
