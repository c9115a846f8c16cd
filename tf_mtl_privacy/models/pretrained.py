"""ResNet-50 and MobileNetV2 from `keras.applications`, cut off at the block of a given stride."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.models.weights import assign_weights, misfit, read_weights
from tf_mtl_privacy.start_files import fetch_failure, imagenet_problem

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
    """`[B, S, S, 3]` in [0, 1] -> the features of the chosen stride, float32.

    Args:
        inputs: a Keras input tensor.
        name: 'resnet50' (He et al. 2016) or 'mobilenet_v2' (Sandler et al. 2018).
        stride: 4, 8, 16 or 32.
        image_size: S; from 64, a multiple of 32.
        imagenet: whether to start from ImageNet weights, fetched by Keras where not yet cached.
        seed: of the initial weights otherwise.

    Raises:
        UsageError: `image_size` is not one this backbone takes.
        RunError: the ImageNet weights could not be fetched.
    """
    if image_size < _SMALLEST or image_size % 32:
        raise UsageError(
            f"--image_size={image_size}: {name} takes multiples of 32 from {_SMALLEST}"
        )
    model = _application(name, _normalised(inputs, name), imagenet)
    if not imagenet:
        _reset(model, name, seed)
    return model.get_layer(TAPS[name][stride]).output


def load_encoder_weights(encoder: keras.Model, path: str, name: str) -> None:
    """Loads a weights file into an encoder; nothing is changed unless all of it fits.

    The file is one that this package saved for the same encoder, or, for the pre-trained
    backbones, one of `keras.applications` (`.weights.h5`, `.h5`, `.keras`). Adapter weights are
    taken from the file where it has them. Layers above the tap are ignored.

    Raises:
        UsageError: the file is missing, unreadable or does not fit.
    """
    advice = f"give the weights of encoder {name} with --encoder_weights, or 'none'"
    if not Path(path).is_file():
        raise UsageError(f"--encoder_weights={path}: no such file; {advice}")
    try:
        found = read_weights(path)
    except ValueError as error:
        raise UsageError(f"--encoder_weights={path}: {error}; {advice}") from error
    has_adapter = any(layer.startswith("adapter_") for layer in found)
    optional = () if has_adapter or name == "compact" else ("adapter_conv", "adapter_norm")
    problem = misfit(encoder, found, optional=optional, allow_extra=name != "compact")
    if problem:
        raise UsageError(
            f"--encoder_weights={path} does not fit encoder {name}: {problem}; {advice}"
        )
    assign_weights(encoder, found)


def _normalised(inputs: Any, name: str) -> Any:
    if name == "mobilenet_v2":
        return keras.layers.Rescaling(2.0, -1.0, name="scale")(inputs)
    blue_first = keras.ops.flip(inputs, axis=-1)
    return keras.layers.Rescaling(255.0, [-mean for mean in _CAFFE_MEANS], name="scale")(blue_first)


def _application(name: str, x: Any, imagenet: bool) -> keras.Model:
    make = {
        "resnet50": keras.applications.ResNet50,
        "mobilenet_v2": keras.applications.MobileNetV2,
    }[name]
    weights = "imagenet" if imagenet else None
    try:
        with warnings.catch_warnings():
            # MobileNetV2 says of every input that its weights are those of 224 pixels.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined")
            return make(include_top=False, weights=weights, input_tensor=x, name=name)
    except Exception as error:
        if not imagenet:
            raise
        reason = fetch_failure(error)
        raise RunError(imagenet_problem("encoder_weights", name, reason)) from error


def _reset(model: keras.Model, name: str, seed: int) -> None:
    """Draws the kernels anew from the run's seed; `keras.applications` takes no seed."""
    for layer in model.layers:
        for variable in layer.trainable_variables:
            if "kernel" in variable.name:
                draw = keras.initializers.HeNormal(
                    seed=layer_seed(seed, f"{name}/{layer.name}/{variable.name}")
                )
                variable.assign(draw(variable.shape))
