"""Imports TensorFlow quietly, with the Keras settings that the networks are built for."""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from typing import Any

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.start_files import keras_home

# Keras setting -> the value needed here, then the other values that Keras accepts.
_KERAS: dict[str, tuple[Any, ...]] = {
    "floatx": ("float32", "float16", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
    "epsilon": (1e-7,),
}


def load_tensorflow() -> None:
    """Imports TensorFlow and hides what its libraries print while they load.

    They write to the file descriptor before any of their log levels is read. If the import fails,
    everything they wrote is shown. Settings in the user's keras.json that would change the networks
    are overridden for this process.

    Raises:
        UsageError: a keras.json that Keras itself refuses.
    """
    overridden = _differing_settings()
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with tempfile.TemporaryFile() as output:
            os.dup2(output.fileno(), 2)
            try:
                importlib.import_module("tensorflow")
                if overridden:
                    keras = importlib.import_module("keras")
                    for name in overridden:
                        getattr(keras.config, f"set_{name}")(_KERAS[name][0])
            except BaseException:
                output.seek(0)
                os.write(terminal, output.read())
                raise
            finally:
                os.dup2(terminal, 2)
    finally:
        os.close(terminal)


def _differing_settings() -> list[str]:
    """Returns the names of the settings in keras.json that differ from those needed here."""
    path = keras_home() / "keras.json"
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Keras ignores a missing or damaged file, too.
        return []
    different = []
    for name, allowed in _KERAS.items():
        value = saved.get(name, allowed[0]) if isinstance(saved, dict) else saved
        # Keras accepts any float for epsilon.
        if value not in allowed and not (name == "epsilon" and isinstance(value, float)):
            raise UsageError(
                f"{path}: {name}={value!r:.40}: Keras expects one of {allowed}; correct or remove "
                "the file"
            )
        if value != allowed[0]:
            different.append(name)
    return different
