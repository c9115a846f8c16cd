"""What would make a clipping bound or an epsilon untrue, found before training and refused."""

from __future__ import annotations

import math
from typing import Any

import keras

from tf_mtl_privacy.errors import UsageError

# Their output for one row depends on the other rows of the batch.
_MIXING = (keras.layers.BatchNormalization,)
_WITH_AXIS = (
    keras.layers.LayerNormalization,
    keras.layers.UnitNormalization,
    keras.layers.Softmax,
)


def check_mechanism(
    l2_norm_clip: float,
    noise_multiplier: float,
    expected_batch_size: float | None,
    allow_zero_noise: bool,
) -> None:
    """Refuses numbers that give no privacy.

    Raises:
        UsageError: a clip norm that is not finite and > 0; noise that is not finite, < 0, or 0
            without `allow_zero_noise`; an expected batch size that is not finite and > 0.
    """
    if not (math.isfinite(l2_norm_clip) and l2_norm_clip > 0):
        raise UsageError(f"l2_norm_clip={l2_norm_clip}: expected > 0 and finite")
    if not (math.isfinite(noise_multiplier) and noise_multiplier >= 0):
        raise UsageError(f"noise_multiplier={noise_multiplier}: expected > 0 and finite")
    if noise_multiplier == 0 and not allow_zero_noise:
        raise UsageError(
            "noise_multiplier=0: expected > 0; zero noise is not private and needs "
            "allow_zero_noise=True"
        )
    size = expected_batch_size
    if size is not None and not (math.isfinite(size) and size > 0):
        raise UsageError(f"expected_batch_size={size}: expected > 0 and finite")


def check_model(model: keras.Model) -> None:
    """Refuses a model whose private gradient clipping would not bound, or would leave out.

    Raises:
        UsageError: nothing to train; a layer that mixes examples, computes in anything but
            float32, or adds a loss or a constraint, which a private update would not see.
    """
    if not model.trainable_variables:
        raise UsageError(f"model {model.name}: has no trainable weights (is it built?)")
    for layer in model._flatten_layers(include_self=False, recursive=True):
        _check_mixing(layer)
        _check_precision(layer)
        _check_extras(layer)


def _check_mixing(layer: Any) -> None:
    axes = getattr(layer, "axis", -1) if isinstance(layer, _WITH_AXIS) else -1
    over_rows = 0 in (axes if isinstance(axes, (list, tuple)) else [axes])
    if over_rows or (isinstance(layer, _MIXING) and layer.trainable):
        raise UsageError(
            f"layer {layer.name} ({type(layer).__name__}) mixes the examples of a batch, so no "
            "clipping bounds one example's influence; use GroupNormalization, or freeze it"
        )


def _check_precision(layer: Any) -> None:
    if layer.compute_dtype != "float32" and layer.trainable_variables:
        raise UsageError(
            f"layer {layer.name} computes in {layer.compute_dtype}: per-example norms overflow or "
            "lose their accuracy there; use the float32 policy for the private model"
        )


def _check_extras(layer: Any) -> None:
    if not layer.trainable_variables:
        names = ["activity_regularizer"]
    else:
        names = [name for name in vars(layer) if name.endswith(("_regularizer", "_constraint"))]
        names.append("activity_regularizer")
    for name in names:
        if getattr(layer, name, None) is not None:
            raise UsageError(
                f"layer {layer.name} has a {name}: a private update would not see it; leave it "
                "out, or add it to the per-example loss"
            )
