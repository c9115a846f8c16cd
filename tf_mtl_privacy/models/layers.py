"""The few layers all networks are made of, with initial weights that depend on a seed and a name.

The seed is handed to each initialiser instead of being set globally: a global seed would also fix
the noise of differentially private training.

Refuses settings of Keras with which the networks would be built or computed otherwise.

Moves pixels into a cell's channels and back, so that a feature map can carry a picture.
"""

from __future__ import annotations

import hashlib
from typing import Any

import keras

from tf_mtl_privacy.errors import UsageError


def check_keras_settings() -> None:
    """Makes sure that Keras computes in float32, channels last, by TensorFlow.

    The commands set this themselves. In Python the settings are the caller's, from keras.json or
    from calls, and are not changed.

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


_MOST_GROUPS = 8
_LEAST_CHANNELS_PER_GROUP = 8
_EPSILON = 1e-5


def layer_seed(seed: int, name: str) -> int:
    """A seed in [0, 2^31) for one layer: the same for the same run seed and layer name."""
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
        """He et al. 2015, section 2.2: for weights in front of a ReLU."""
        return keras.initializers.HeNormal(seed=layer_seed(self._seed, f"{self._model}/{name}"))

    def glorot_uniform(self, name: str) -> keras.initializers.Initializer:
        """Glorot and Bengio 2010, equation 16: for weights in front of logits."""
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
        """A convolution with zero padding ('same'); `from_zero`: its first weights are all 0."""
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
        """A fully connected layer with bias."""
        make = self.glorot_uniform if activation is None else self.he_normal
        return keras.layers.Dense(
            units, activation=activation, kernel_initializer=make(name), name=name
        )


def group_norm(channels: int, name: str, *, groups: int | None = None) -> keras.layers.Layer:
    """Group normalisation (Wu and He 2018): statistics of one example, never of the batch."""
    return keras.layers.GroupNormalization(
        groups or norm_groups(channels), epsilon=_EPSILON, name=name
    )


def norm_groups(channels: int) -> int:
    """The largest divisor of `channels` that is at most 8 and leaves 8 channels or more each."""
    fitting = [
        groups
        for groups in range(1, _MOST_GROUPS + 1)
        if channels % groups == 0 and channels // groups >= _LEAST_CHANNELS_PER_GROUP
    ]
    return max(fitting, default=1)


def convolution_block(
    layers: Layers, x: Any, channels: int, *, strides: int, number: int | str
) -> Any:
    """3x3 convolution, group normalisation, ReLU; layers `conv<number>` and so on."""
    x = layers.conv(channels, 3, f"conv{number}", strides=strides)(x)
    x = group_norm(channels, f"norm{number}")(x)
    return keras.layers.Activation("relu", name=f"relu{number}")(x)


def halvings(cells: int, *, most: int = 4) -> int:
    """How often a grid of `cells` along a side is halved, rounding up, to have at most `most`."""
    count = 0
    while cells > most:
        cells, count = -(-cells // 2), count + 1
    return count
