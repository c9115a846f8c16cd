"""Refuses settings of Keras with which the networks would be built or computed otherwise."""

from __future__ import annotations

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
