"""Weight files by layer name, and pre-trained backbones from `keras.applications`.

Files are HDF5 only: nothing is unpickled or executed.
"""

from __future__ import annotations

import io
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.start_files import fetch_failure, imagenet_problem

LayerWeights = dict[str, list[np.ndarray]]


def read_weights(path: str | os.PathLike[str]) -> LayerWeights:
    """Reads layer name -> its arrays, in the order of `layer.weights`; omits layers without any.

    Takes `.weights.h5` (Keras 3), `.h5` (Keras 2, as `keras.applications` distributes) and `.keras`
    archives (only their weights are read).

    Raises:
        ValueError: not such a file.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                content = archive.read("model.weights.h5")
            with h5py.File(io.BytesIO(content), "r") as file:
                return _read(file)
        with h5py.File(path, "r") as file:
            return _read(file)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError("not a readable Keras weights file") from error


def misfit(
    model: keras.Model,
    weights: LayerWeights,
    *,
    optional: tuple[str, ...] = (),
    allow_extra: bool = False,
) -> str:
    """States why `weights` is not a complete set of `model`'s weights; empty if it is."""
    wanted = {layer.name: [tuple(w.shape) for w in layer.weights] for layer in model.layers}
    wanted = {name: shapes for name, shapes in wanted.items() if shapes}
    for name, shapes in wanted.items():
        if name not in weights:
            if name in optional:
                continue
            return f"it has no layer {name}"
        present = [array.shape for array in weights[name]]
        if present != shapes:
            return f"layer {name} has shapes {_text(present)}, expected {_text(shapes)}"
        if not all(np.isfinite(array).all() for array in weights[name]):
            return f"layer {name} has values that are not finite"
    extra = [name for name in weights if name not in wanted]
    return f"it has an extra layer {extra[0]}" if extra and not allow_extra else ""


def assign_weights(model: keras.Model, weights: LayerWeights) -> None:
    """Sets every layer of `model` that `weights` names; check with `misfit` first."""
    for layer in model.layers:
        if layer.weights and layer.name in weights:
            layer.set_weights(weights[layer.name])


def save_weights(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Writes `model`'s weights as `.weights.h5`, under a temporary name first.

    Raises:
        RunError: the file cannot be written; an earlier file stays.
    """
    target = Path(path)
    temporary = target.with_name(f".{os.getpid()}.{target.name}")
    try:
        model.save_weights(temporary, overwrite=True)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise RunError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _read(file: h5py.File) -> LayerWeights:
    top = file.get("model_weights", file)
    weights = _read_keras2(top) if "layer_names" in top.attrs else _read_keras3(file)
    if not weights:
        raise KeyError("no weights")
    return weights


def _read_keras2(top: h5py.Group) -> LayerWeights:
    weights: LayerWeights = {}
    for name in map(_decoded, top.attrs["layer_names"]):
        arrays = [top[name][_decoded(w)][()] for w in top[name].attrs["weight_names"]]
        if arrays:
            weights[name] = arrays
    return weights


def _read_keras3(file: h5py.File) -> LayerWeights:
    weights: LayerWeights = {}

    def visit(path: str, item: h5py.Group | h5py.Dataset) -> None:
        # Keras numbers the groups by class; the layer's own name is an attribute.
        if path.rpartition("/")[2] != "vars" or not isinstance(item, h5py.Group):
            return
        name, numbers = _decoded(item.attrs.get("name", "")), sorted(item, key=int)
        if name and numbers:
            weights[name] = [item[number][()] for number in numbers]

    file.visititems(visit)
    return weights


def _decoded(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def _text(shapes: list[tuple[int, ...]]) -> str:
    return " ".join("x".join(map(str, shape)) or "scalar" for shape in shapes)


# Stride -> the last layer that has it.
TAPS = {
    "resnet50": {
        4: "conv2_block3_out",
        8: "conv3_block4_out",
        16: "conv4_block6_out",
        32: "conv5_block3_out",
    },
    "mobilenet_v2": {4: "block_2_add", 8: "block_5_add", 16: "block_12_add", 32: "out_relu"},
}
_SMALLEST = 64
# Caffe's means of the ImageNet images in blue, green, red order, as ResNet-50 was trained with.
_CAFFE_MEANS = (103.939, 116.779, 123.68)


def pretrained_backbone(
    inputs: Any, *, name: str, stride: int, image_size: int, imagenet: bool, seed: int
) -> Any:
    """Builds a backbone up to a stride: `[B, S, S, 3]` in [0, 1] -> its features, float32.

    Args:
        inputs: a Keras input tensor.
        name: 'resnet50' (He et al. 2016) or 'mobilenet_v2' (Sandler et al. 2018).
        stride: 4, 8, 16 or 32.
        image_size: S; from 64, a multiple of 32.
        imagenet: start from ImageNet weights, which Keras fetches if they are not cached.
        seed: of the initial weights without ImageNet.

    Raises:
        UsageError: the backbone does not take this `image_size`.
        RunError: the ImageNet weights could not be fetched.
    """
    if image_size < _SMALLEST or image_size % 32:
        raise UsageError(
            f"--image_size={image_size}: {name} takes multiples of 32 from {_SMALLEST}"
        )
    model = application(name, inputs, imagenet=imagenet, option="encoder_weights")
    if not imagenet:
        _reset(model, name, seed)
    return model.get_layer(TAPS[name][stride]).output


def load_encoder_weights(encoder: keras.Model, path: str, name: str) -> None:
    """Loads a weights file into an encoder; changes nothing unless all of it fits.

    The file is one that this package saved for the same encoder, or, for the pre-trained
    backbones, one of `keras.applications` (`.weights.h5`, `.h5`, `.keras`). Adapter weights are
    taken from the file if it has them. Layers above the tap are ignored.

    Raises:
        UsageError: the file is missing, unreadable or does not fit.
    """
    advice = f"give the weights of encoder {name} with --encoder_weights, or 'none'"
    if not Path(path).is_file():
        raise UsageError(f"--encoder_weights={path}: no such file; {advice}")
    try:
        weights = read_weights(path)
    except ValueError as error:
        raise UsageError(f"--encoder_weights={path}: {error}; {advice}") from error
    has_adapter = any(layer.startswith("adapter_") for layer in weights)
    optional = () if has_adapter or name == "compact" else ("adapter_conv", "adapter_norm")
    problem = misfit(encoder, weights, optional=optional, allow_extra=name != "compact")
    if problem:
        raise UsageError(
            f"--encoder_weights={path} does not fit encoder {name}: {problem}; {advice}"
        )
    assign_weights(encoder, weights)


def _normalised(inputs: Any, name: str) -> Any:
    if name == "mobilenet_v2":
        return keras.layers.Rescaling(2.0, -1.0, name="scale")(inputs)
    blue_first = keras.ops.flip(inputs, axis=-1)
    return keras.layers.Rescaling(255.0, [-mean for mean in _CAFFE_MEANS], name="scale")(blue_first)


def application(name: str, inputs: Any, *, imagenet: bool, option: str) -> keras.Model:
    """Builds a network of `keras.applications` without its head, for images in [0, 1].

    Args:
        name: 'resnet50', 'mobilenet_v2' or 'vgg16'.
        inputs: a Keras input tensor.
        imagenet: load ImageNet weights, which Keras fetches if they are not cached.
        option: the option that selects them, for the error.

    Raises:
        RunError: the ImageNet weights could not be fetched.
    """
    make = {
        "resnet50": keras.applications.ResNet50,
        "mobilenet_v2": keras.applications.MobileNetV2,
        "vgg16": keras.applications.VGG16,
    }[name]
    x = _normalised(inputs, name)
    weights = "imagenet" if imagenet else None
    try:
        with warnings.catch_warnings():
            # MobileNetV2 warns about every input size but 224.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined")
            return make(include_top=False, weights=weights, input_tensor=x, name=name)
    except Exception as error:
        if not imagenet:
            raise
        reason = fetch_failure(error)
        raise RunError(imagenet_problem(option, name, reason)) from error


def _reset(model: keras.Model, name: str, seed: int) -> None:
    """Redraws the kernels from the run's seed; `keras.applications` takes no seed."""
    for layer in model.layers:
        for variable in layer.trainable_variables:
            if "kernel" in variable.name:
                draw = keras.initializers.HeNormal(
                    seed=layer_seed(seed, f"{name}/{layer.name}/{variable.name}")
                )
                variable.assign(draw(variable.shape))
