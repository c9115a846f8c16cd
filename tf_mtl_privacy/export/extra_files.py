"""Files in `assets.extra/`: privacy card, configuration, labels, warm-up requests, checksums."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.sources.base import content_hash
from tf_mtl_privacy.errors import RunError, install_command
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.removal import draws_at_random
from tf_mtl_privacy.serving_signature import (
    CARD_FILE,
    CHECKSUMS_FILE,
    CONFIG_FILE,
    DEFAULT_SIGNATURE,
    EXTRA_FOLDER,
    IMAGE_BYTES,
    IMAGES,
    LABELS_FILE,
    MAX_REQUEST_ROWS,
    REGIONS,
)
from tf_mtl_privacy.training.region_maps import region_source
from tf_mtl_privacy.training.saved_run import SavedRun

Signatures = Mapping[str, tf.types.experimental.ConcreteFunction]


def write_extra(
    folder: Path, run: SavedRun, labels: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
    """Writes the privacy card, the configuration and the labels.

    Args:
        folder: `assets.extra`.
        run: the exported run.
        labels: see `describe`.
        card: the privacy card.
    """
    write_json(folder / CARD_FILE, dict(card))
    write_json(folder / CONFIG_FILE, without_paths(run.config).to_dict())
    write_json(folder / LABELS_FILE, dict(labels))


def describe(
    run: SavedRun, signatures: Signatures, missing: Mapping[str, str], name: str, version: int
) -> dict[str, Any]:
    """Builds `labels.json`, which tells clients about the model; it omits the private classes.

    Args:
        run: the exported run.
        signatures: by name.
        missing: signatures that the export lacks, with reasons.
        name: the model's name.
        version: its number.

    Returns:
        `schema_version`, `name`, `version`, `tasks` (a list of `task` and its `classes`, in the
        order of their probabilities), `image_size`, `crop`, `largest_batch` (most pictures in a
        request), `stochastic` (true if noise on the features makes answers differ from call to
        call), `region_source` (network that the map comes from; null without a map), `signatures`
        (name -> inputs and outputs, each with dtype and shape; null is any length) and
        `missing_signatures`.
    """
    return {
        "schema_version": 1,
        "name": name,
        "version": version,
        "tasks": [
            {"task": task, "classes": list(classes)} for task, classes in run.task_classes.items()
        ],
        "image_size": run.config.data.image_size,
        "crop": run.config.data.effective_crop,
        "largest_batch": MAX_REQUEST_ROWS,
        "stochastic": draws_at_random(run.bundle.encoder),
        "region_source": region_source(run.bundle) if REGIONS in signatures else None,
        "signatures": {key: _interface(function) for key, function in signatures.items()},
        "missing_signatures": dict(missing),
    }


def write_warmup(path: Path, name: str, signatures: Iterable[str], size: int) -> None:
    """Writes one request for each signature, with a picture of a colour gradient.

    TensorFlow Serving replays them when it loads the model, so that the first user does not wait.
    Source: TensorFlow Serving, "SavedModel Warmup": a TFRecord file of `PredictionLog`.

    Args:
        path: the file.
        name: the model's name.
        signatures: names of the model's signatures.
        size: height and width of the picture, in pixels.
    """
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    picture = _gradient(size)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature in signatures:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            if signature == DEFAULT_SIGNATURE:
                content = tf.io.encode_jpeg(picture).numpy()
                request.inputs[IMAGE_BYTES].CopyFrom(tf.make_tensor_proto([content]))
            else:
                request.inputs[IMAGES].CopyFrom(tf.make_tensor_proto(picture[np.newaxis]))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())


def write_checksums(folder: Path) -> None:
    """Writes the SHA-256 (hex) of every file of a version, by relative path, except its own."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): content_hash(path) for path in files}
    write_json(folder / EXTRA_FOLDER / CHECKSUMS_FILE, sums)


def require_stubs() -> None:
    """Checks that TensorFlow Serving's official stubs are installed.

    Raises:
        RunError: they are not; the message contains the command that installs them.
    """
    try:
        importlib.import_module("tensorflow_serving.apis.prediction_log_pb2")
    except ImportError as error:
        raise RunError(
            "the package tensorflow-serving-api is missing; export needs it for the warm-up "
            f"requests: {install_command('serving')}"
        ) from error


def without_paths(config: Config) -> Config:
    """Returns the configuration with folder names instead of the training machine's paths."""
    data = dataclasses.replace(config.data, cache_dir="", data_dir=Path(config.data.data_dir).name)
    weights = Path(config.model.encoder_weights).name
    model = dataclasses.replace(
        config.model, backbone=Path(config.model.backbone).name, encoder_weights=weights
    )
    perceptual = Path(config.loss.perceptual_weights).name
    loss = dataclasses.replace(config.loss, perceptual_weights=perceptual)
    return dataclasses.replace(config, data=data, model=model, loss=loss)


def _interface(function: tf.types.experimental.ConcreteFunction) -> dict[str, Any]:
    inputs = {
        spec.name: spec for spec in function.structured_input_signature[0]
    } | function.structured_input_signature[1]
    outputs = function.structured_outputs
    return {"inputs": _tensors(inputs), "outputs": _tensors(outputs)}


def _tensors(named: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"dtype": tensor.dtype.name, "shape": tensor.shape.as_list()}
        for name, tensor in sorted(named.items())
    }


def _gradient(size: int) -> np.ndarray:
    """`[size, size, 3]` uint8: red increases to the right, green downwards, blue is constant."""
    steps = np.linspace(0, 255, size).astype(np.uint8)
    across, down = np.meshgrid(steps, steps)
    return np.stack([across, down, np.full_like(across, 128)], axis=-1)
