"""Starts networks from an earlier run, and checks that a private run starts from public data."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import keras

from tf_mtl_privacy.config import LABELS_FILE, Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import read_json
from tf_mtl_privacy.models.weights import LayerWeights, assign_weights, misfit, read_weights
from tf_mtl_privacy.removal import registered
from tf_mtl_privacy.start_files import backbone_config, weights_file

ADAPTER = "adapter_"
# Weights that are fetched or come with a package, trained on published data.
_SHIPPED = ("none", "imagenet", "hed")


def load_backbone(encoder: keras.Model, run_dir: str | os.PathLike[str]) -> None:
    """Sets the encoder's weights to those of a run; changes nothing unless they fit.

    Adapter layers are taken over if their shapes agree. Layers of a removal method in front of the
    backbone (a mask) are taken over if all their shapes agree. Otherwise the encoder keeps its own.
    Such layers of the run that the encoder lacks are ignored.

    Raises:
        UsageError: not a finished run, or its encoder has another shape.
    """
    backbone_config(run_dir)
    weights = _read(run_dir, "encoder")
    layers = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in encoder.layers}
    differ = {
        name
        for name, shapes in layers.items()
        if shapes and shapes != [array.shape for array in weights.get(name, [])]
    }
    prefixes = tuple(method.prefix for method in registered() if method.prefix)
    # A mask with weights of two runs would match neither.
    unfit = tuple(start for start in prefixes if any(name.startswith(start) for name in differ))
    own = tuple(
        name
        for name in layers
        if (name.startswith(ADAPTER) and name in differ) or (unfit and name.startswith(unfit))
    )
    surplus = tuple(
        name for name in weights if name.startswith((ADAPTER, *prefixes)) and name not in layers
    )
    weights = {name: arrays for name, arrays in weights.items() if name not in own + surplus}
    problem = misfit(encoder, weights, optional=own)
    if problem:
        raise UsageError(
            f"--backbone={run_dir} does not fit this encoder: {problem}; give the --encoder, "
            "--feature_stride and --compact_width that it was trained with"
        )
    assign_weights(encoder, weights)


def start_heads(heads: dict[str, keras.Model], run_dir: str | os.PathLike[str]) -> tuple[str, ...]:
    """Sets heads to those of a run if all their shapes agree; returns the names of these heads.

    Layers that only the run has (logits of other tasks) are ignored. Only shapes are compared, so
    classes are matched by number.
    """
    started = []
    for name, model in heads.items():
        if weights_file(run_dir, name).is_file():
            weights = _read(run_dir, name)
            if not misfit(model, weights, allow_extra=name == "business"):
                assign_weights(model, weights)
                started.append(name)
    return tuple(started)


def public_source(config: Config, *, given: bool = False) -> str:
    """States why the frozen part of a `--dp_scope=all` run reveals nothing about training rows.

    Args:
        config: the run's configuration.
        given: True if its rows were passed in instead of opened from `config.data`.

    Raises:
        UsageError: the backbone's run was trained on data that is not public: anything but
            synthetic faces, or the same synthetic faces as the run's own.
    """
    perceptual = config.effective_perceptual_weights
    beside = "" if perceptual in _SHIPPED else f"; {_stated(perceptual)}"
    if config.model.backbone:
        return _public_run(config, given) + beside
    if config.model.effective_encoder_weights == "imagenet":
        return "ImageNet weights" + beside
    return _stated(config.model.effective_encoder_weights) + beside


def _stated(path: str) -> str:
    return f"the file {Path(path).name} (SHA-256 {_digest(path)}), public by --public_weights"


def _public_run(config: Config, given: bool) -> str:
    run_dir, own = config.model.backbone, config.data
    theirs = backbone_config(run_dir)
    data = theirs.data
    # The labels file, because the configuration names a data set even if rows were passed in.
    try:
        labels = read_json(Path(run_dir) / LABELS_FILE)
    except RunError as error:
        raise UsageError(f"--backbone={run_dir}: {error}") from error
    source = labels.get("source", "") if isinstance(labels, dict) else ""
    if source != "synthetic_faces":
        what = source or "rows passed from Python"
        raise UsageError(
            f"--backbone={run_dir}: was trained on {what}, so its weights are not public; with "
            "--dp_scope=all give one that was trained on synthetic_faces"
        )
    started = theirs.model.backbone or theirs.model.effective_encoder_weights not in (
        "none",
        "imagenet",
    )
    if started or theirs.effective_perceptual_weights not in _SHIPPED:
        raise UsageError(
            f"--backbone={run_dir}: started from other weights with unknown training data; give a "
            "run that started from none"
        )
    with_people = "identity" in (data.effective_private_label, own.effective_private_label)
    set_aside = data.synthetic_stream != own.synthetic_stream and not with_people
    same = own.dataset == "synthetic_faces" and data.data_seed == own.data_seed
    if same and not set_aside and not given:
        raise UsageError(
            f"--backbone={run_dir}: was trained on the faces that this run trains on; train it "
            "with --synthetic_stream=backbone or another --data_seed"
        )
    digest = _digest(weights_file(run_dir, "encoder"))
    return (
        "an encoder trained on synthetic faces, which show no real person (weights' SHA-256 "
        f"{digest})"
    )


def _digest(path: str | os.PathLike[str]) -> str:
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error


def _read(run_dir: str | os.PathLike[str], name: str) -> LayerWeights:
    path = weights_file(run_dir, name)
    try:
        return read_weights(path)
    except ValueError as error:
        raise UsageError(f"--backbone={run_dir}: {path.name}: {error}") from error


def split_encoder(encoder: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Splits an encoder into its backbone and the adapter that is trained on top of it.

    Args:
        encoder: from `build_encoder`; both parts share its weights.

    Returns:
        `(backbone, adapter)`: images `[B, S, S, 3]` -> `[B, h, w, c']`, and from there to the
        encoder's features `[B, h, w, c]`. Pixels that the features carry are the last of the c'
        channels and pass through the adapter unchanged.
    """
    by_output = {id(layer.output): layer for layer in encoder.layers}
    tail = [by_output[id(encoder.outputs[0])]]
    while tail[0].name != f"{ADAPTER}conv":
        tail.insert(0, by_output[id(_first(tail[0].input)[0])])
    seen = tail[0].input
    carried = [part for layer in tail for part in _first(layer.input)[1]]
    whole = keras.layers.Concatenate(name="backbone_carries")([seen, *carried]) if carried else seen
    backbone = keras.Model(encoder.inputs[0], whole, name="backbone")
    inputs = keras.Input(backbone.output_shape[1:], name="backbone_features")
    channels = seen.shape[-1]
    x = inputs[..., :channels] if carried else inputs
    for layer in tail:
        x = layer([x, inputs[..., channels:]] if _first(layer.input)[1] else x)
    return backbone, keras.Model(inputs, x, name="adapter")


def _first(inputs: Any) -> tuple[Any, list[Any]]:
    """Returns the first of a layer's inputs, and the others."""
    return (inputs[0], list(inputs[1:])) if isinstance(inputs, list) else (inputs, [])
