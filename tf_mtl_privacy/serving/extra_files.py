"""What lies beside the graph in `assets.extra/`: privacy card, configuration, labels, checksums."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.contract import (
    CARD_FILE,
    CHECKSUMS_FILE,
    CONFIG_FILE,
    EXTRA_FOLDER,
    LABELS_FILE,
    LARGEST_BATCH,
    REGIONS,
)
from tf_mtl_privacy.data.image_files import content_hash
from tf_mtl_privacy.files import write_json
from tf_mtl_privacy.models.noise import has_noise
from tf_mtl_privacy.training.region_maps import region_source
from tf_mtl_privacy.training.saved_run import SavedRun

Signatures = Mapping[str, tf.types.experimental.ConcreteFunction]


def write_extra(
    folder: Path, run: SavedRun, labels: Mapping[str, Any], card: Mapping[str, Any]
) -> None:
    """Writes all but the warm-up requests and the checksums.

    Args:
        folder: `assets.extra`.
        run: what is exported.
        labels: see `describe`.
        card: the privacy card.
    """
    write_json(folder / CARD_FILE, dict(card))
    write_json(folder / CONFIG_FILE, without_places(run.config).to_dict())
    write_json(folder / LABELS_FILE, dict(labels))


def describe(
    run: SavedRun, signatures: Signatures, missing: Mapping[str, str], name: str, version: int
) -> dict[str, Any]:
    """What a client has to know of a model, JSON-ready; the classes that are private are not in it.

    Args:
        run: what is exported.
        signatures: by name.
        missing: signatures that it does not have -> why.
        name: the model's name.
        version: its number.

    Returns:
        `schema_version`, `name`, `version`, `tasks` (a list in order: `task` and its `classes`, in
        the order of their probabilities), `image_size`,
        `crop` (how pictures are prepared), `largest_batch`, `stochastic` (whether answers differ
        from call to call, by the noise on the features), `region_source` (what the map is made of;
        null without one), `signatures` (name -> inputs and outputs, each with dtype and shape, null
        for any length) and `missing_signatures`.
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
        "largest_batch": LARGEST_BATCH,
        "stochastic": has_noise(run.bundle.encoder),
        "region_source": region_source(run.bundle) if REGIONS in signatures else None,
        "signatures": {key: _interface(function) for key, function in signatures.items()},
        "missing_signatures": dict(missing),
    }


def without_places(config: Config) -> Config:
    """The configuration without the folders of the machine that trained it: their names only."""
    data = dataclasses.replace(config.data, cache_dir="", data_dir=Path(config.data.data_dir).name)
    weights = Path(config.model.encoder_weights).name
    model = dataclasses.replace(
        config.model, backbone=Path(config.model.backbone).name, encoder_weights=weights
    )
    perceptual = Path(config.loss.perceptual_weights).name
    loss = dataclasses.replace(config.loss, perceptual_weights=perceptual)
    return dataclasses.replace(config, data=data, model=model, loss=loss)


def write_checksums(folder: Path) -> None:
    """Writes the SHA-256 (hex) of every file of a version, by its path in it, but for its own."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    sums = {path.relative_to(folder).as_posix(): content_hash(path) for path in files}
    write_json(folder / EXTRA_FOLDER / CHECKSUMS_FILE, sums)


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
