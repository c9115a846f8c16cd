"""The attributes of a prepared picture as a file of their own, for devices and other runtimes.

Only the encoder and the business heads are in it: features never leave the device. Decoding and
cropping are left to the device; `data/preprocess.py` says what is expected.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.contract import probabilities_key
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.utility import utility
from tf_mtl_privacy.models.noise import has_noise
from tf_mtl_privacy.serving.signatures import networks_of
from tf_mtl_privacy.training.saved_run import SavedRun

Array = np.ndarray[Any, Any]
# Prepared pictures `[N, S, S, 3]` uint8 -> outputs of a file, each `[N, classes]`.
Reader = Callable[[Array], dict[str, Array]]
INPUT = "image"


def require_device(run: SavedRun, flag: str) -> None:
    """Checks that a run can become such a file.

    Args:
        run: what is exported.
        flag: what asks for the file; messages begin with it.

    Raises:
        UsageError: it cannot; the message says why.
    """
    if has_noise(run.bundle.encoder):
        raise UsageError(
            f"{flag}: the run's features carry noise (--feature_noise="
            f"{run.config.removal.feature_noise}), which such a file cannot draw; leave the flag "
            "out"
        )


def attributes_of(run: SavedRun, batch: int | None) -> tuple[tf.Module, Any]:
    """A module with the weights, and its function, not traced yet.

    The function takes `image` `[batch, S, S, 3]` float32 in [0, 1], prepared, and returns
    `<task>_probabilities` `[batch, classes]` float32.

    Args:
        run: a finished run.
        batch: pictures of a call; None for any number.
    """
    bundles, size = networks_of(run), run.config.data.image_size

    @tf.function(
        autograph=False,
        input_signature=[tf.TensorSpec((batch, size, size, 3), tf.float32, name=INPUT)],
    )
    def read(image: tf.Tensor) -> dict[str, tf.Tensor]:
        found = {}
        for bundle in bundles.values():
            features = bundle.encoder(image, training=False)
            for task, logits in bundle.business(features, training=False).items():
                found[probabilities_key(task)] = tf.nn.softmax(logits)
        return found

    module = tf.Module()
    models = [m for bundle in bundles.values() for m in (bundle.encoder, bundle.business)]
    module.weights = [weight.value for model in models for weight in model.variables]
    return module, read


def in_unit_range(images: Array) -> Array:
    """Pixels uint8 -> float32 in [0, 1], as `attributes_of` expects them."""
    return images.astype(np.float32) / np.float32(255.0)


def compared(
    found: Mapping[str, Array],
    original: Mapping[str, Array],
    labels: Mapping[str, Array],
    classes: Mapping[str, tuple[str, ...]],
) -> dict[str, Any]:
    """Task -> `device` and `original` (`utility` of each) and `agreement`, a share of the rows.

    Args:
        found: output -> probabilities `[N, classes]` of the converted file.
        original: task -> probabilities of the run itself.
        labels: task -> `[N]` int, -1 where unknown.
        classes: task -> class names.
    """
    result = {}
    for task, names in classes.items():
        here, there = found[probabilities_key(task)], original[task]
        result[task] = {
            "device": utility(here, labels[task], names),
            "original": utility(there, labels[task], names),
            "agreement": float(np.mean(here.argmax(1) == there.argmax(1))),
        }
    return result


def first_line(error: Exception) -> str:
    """What a converter says first, for a message of one line."""
    return (str(error).strip() or type(error).__name__).split("\n", 1)[0]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keeps off the terminal what a converter writes to the file descriptor itself."""
    terminal, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
        os.close(nowhere)
