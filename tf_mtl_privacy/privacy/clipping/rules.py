"""Registry of layer rules: how ghost clipping gets the per-example gradients of a layer's weights.

`clipping='ghost'` supports a layer with trainable weights if its class has a rule. Rules for Dense
and convolutions are in `linear`, for normalisations in `normalization`, both imported by `ghost`.
Register one for a layer of your own with `register_layer_rule`:

    class Scale(keras.layers.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=shape[-1:], initializer="ones")

        def call(self, x):
            return x * self.scale

    @register_layer_rule(Scale)
    def scale_gradients(layer, x, delta):
        return [instantiated(layer.scale, x * delta)]  # x, delta: [B, n] -> [B, n]

`instantiated`, `outer_product` and `sequence_product` of `contribution` describe the gradients of
one weight. Row i of a gradient must come from row i of the input alone, and be the exact gradient:
the noise covers no other change. Compare a rule with `clipping='vectorized'`, which needs none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping.contribution import Contribution

Watch = Callable[[Any], None]
Gradients = Callable[[Any, Any, Any], list[Contribution]]


class Pass(NamedTuple):
    """Forward pass of one layer.

    Attributes:
        saved: the part of its input that the gradients need.
        watched: tensors, watched before their use, whose gradients they need.
        output: of the layer, before its `activation`.
    """

    saved: Any
    watched: Any
    output: tf.Tensor


class LayerRule(NamedTuple):
    """Rule of one class of layers; see `register_layer_rule` for the attributes."""

    gradients: Gradients
    forward: Callable[[Any, tf.Tensor, Watch], Pass] | None
    check: Callable[[Any], None]
    variables: tuple[str, ...] | None


_RULES: dict[type, LayerRule] = {}


def register_layer_rule(
    layer_class: type[keras.layers.Layer],
    *,
    forward: Callable[[Any, tf.Tensor, Watch], Pass] | None = None,
    check: Callable[[Any], None] = lambda layer: None,
    variables: tuple[str, ...] | None = None,
) -> Callable[[Gradients], Gradients]:
    """Decorates the function that gives ghost clipping the gradients of a class of layers.

    The function takes (layer, saved, gradients of the watched tensors) and returns a
    `Contribution` for each trainable weight of the layer. Without `forward`, `saved` is the
    layer's input and the gradients are those at its output, both `[B, ...]`.

    Args:
        layer_class: this class exactly; a subclass may compute something else.
        forward: runs the layer up to its `activation`, which is applied afterwards:
            (layer, input, `tape.watch`) -> `Pass`. By default the layer is called as it is.
        check: raises UsageError for settings of a layer that the rule does not support.
        variables: names of the attributes that may hold trainable weights; by default any.

    Raises:
        UsageError: the class has a rule already.
    """
    if layer_class in _RULES:
        raise UsageError(f"{layer_class.__name__} has a layer rule; register a subclass of it")

    def register(gradients: Gradients) -> Gradients:
        _RULES[layer_class] = LayerRule(gradients, forward, check, variables)
        return gradients

    return register


def rule_for(layer: keras.layers.Layer) -> LayerRule:
    """Returns the rule of a layer with trainable weights.

    Raises:
        UsageError: its class has none, or the rule does not support its settings.
    """
    rule = _RULES.get(type(layer))
    if rule is None:
        known = ", ".join(kind.__name__ for kind in _RULES)
        raise refusal(layer, f"has rules for {known} only (add one by @register_layer_rule)")
    if rule.variables is not None:
        known_ids = {id(getattr(layer, name, None)) for name in rule.variables}
        if any(id(variable) not in known_ids for variable in layer.trainable_variables):
            names = " and ".join(rule.variables)
            raise refusal(layer, f"supports no weights of this class other than {names}")
    rule.check(layer)
    return rule


def refusal(layer: keras.layers.Layer, reason: str) -> UsageError:
    """Returns the error for a layer that ghost clipping does not support, with the alternative."""
    return UsageError(
        f"layer {layer.name} ({type(layer).__name__}): ghost clipping {reason}; "
        "use clipping='vectorized'"
    )
