"""Which layers ghost clipping knows, and how each runs and splits its gradient by example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping import convolution, dense, normalization
from tf_mtl_privacy.privacy.clipping.contribution import Contribution

Watch = Callable[[Any], None]


class Pass(NamedTuple):
    """One layer's forward pass.

    Attributes:
        kept: what the gradients need of its input.
        watched: tensors, watched since before they were used, whose gradients they need.
        output: before activation.
    """

    kept: Any
    watched: Any
    output: tf.Tensor


class Rule(NamedTuple):
    """How a kind of layer runs and what its gradients are made of.

    Attributes:
        forward: (layer, its input, `tape.watch`) -> its pass.
        contributions: (layer, what was kept, gradients of what was watched) -> one per variable.
        check: raises UsageError where this layer is set to something that the rule cannot do.
        variables: names of the variables that the rule covers.
    """

    forward: Callable[[Any, tf.Tensor, Watch], Pass]
    contributions: Callable[[Any, Any, Any], list[Contribution]]
    check: Callable[[Any], None]
    variables: tuple[str, ...]


def _from_output(forward: Callable[[Any, tf.Tensor], tuple[Any, tf.Tensor]]) -> Any:
    """For gradients made of the input and of the gradient at the output."""

    def run(layer: Any, x: tf.Tensor, watch: Watch) -> Pass:
        kept, output = forward(layer, x)
        watch(output)
        return Pass(kept, output, output)

    return run


def _from_copies(forward: Callable[[Any, tf.Tensor, list[tf.Tensor]], tf.Tensor]) -> Any:
    """For few weights: each row has its own copy, whose gradient is the per-example gradient."""

    def run(layer: Any, x: tf.Tensor, watch: Watch) -> Pass:
        copies = normalization.row_copies(layer, x)
        watch(copies)
        return Pass(None, copies, forward(layer, x, copies))

    return run


_KERNEL = ("kernel", "bias")
_SCALE = ("gamma", "beta")
# By exact class: a subclass may compute something else.
_RULES: dict[type, Rule] = {
    keras.layers.Dense: Rule(
        _from_output(dense.forward), dense.contributions, lambda layer: None, _KERNEL
    ),
    keras.layers.Conv2D: Rule(
        _from_output(convolution.forward),
        convolution.contributions,
        convolution.check,
        _KERNEL,
    ),
    keras.layers.DepthwiseConv2D: Rule(
        _from_output(convolution.depthwise_forward),
        convolution.depthwise_contributions,
        convolution.check,
        _KERNEL,
    ),
    keras.layers.LayerNormalization: Rule(
        _from_copies(normalization.layer_forward),
        normalization.contributions,
        normalization.check_layer,
        _SCALE,
    ),
    keras.layers.GroupNormalization: Rule(
        _from_copies(normalization.group_forward),
        normalization.contributions,
        lambda layer: None,
        _SCALE,
    ),
}


def rule_for(layer: keras.layers.Layer) -> Rule:
    """The rule for a layer with trainable weights.

    Raises:
        UsageError: there is none, or the layer is set to something that the rule cannot do.
    """
    rule = _RULES.get(type(layer))
    if rule is None:
        raise refusal(layer, f"knows no layer of class {type(layer).__name__}")
    known = {id(getattr(layer, name, None)) for name in rule.variables}
    if any(id(variable) not in known for variable in layer.trainable_variables):
        raise refusal(layer, "knows no weights of it beyond " + " and ".join(rule.variables))
    rule.check(layer)
    return rule


def refusal(layer: keras.layers.Layer, reason: str) -> UsageError:
    """The error for a layer that ghost clipping cannot do, with what to use instead."""
    known = ", ".join(kind.__name__ for kind in _RULES)
    return UsageError(
        f"layer {layer.name} ({type(layer).__name__}): ghost clipping {reason}; it does {known}; "
        "use clipping='vectorized'"
    )
