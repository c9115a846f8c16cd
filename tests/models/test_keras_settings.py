"""Settings of Keras under which the networks would not be what they should be are refused."""

import keras
import pytest

from tests.training.tiny import tiny_config
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.bundle import build_bundle


@pytest.mark.parametrize(
    ("name", "usual", "wrong"),
    [
        ("image_data_format", "channels_last", "channels_first"),
        ("floatx", "float32", "float16"),
        ("dtype_policy", "float32", "mixed_float16"),
    ],
)
def test_build_bundle_foreign_setting_is_refused(name, usual, wrong):
    setter = getattr(keras.config, f"set_{name}")
    setter(wrong)
    try:
        with pytest.raises(UsageError, match=f"{name} is {wrong}, expected {usual}") as error:
            build_bundle(tiny_config("stl"), {"gender": 2}, 0)
    finally:
        setter(usual)
    # The remedy is a call that can be copied.
    (call,) = [part for part in str(error.value).split() if part.startswith("keras.config.")]
    assert call == f"keras.config.set_{name}('{usual}')"
    build_bundle(tiny_config("stl"), {"gender": 2}, 0)
