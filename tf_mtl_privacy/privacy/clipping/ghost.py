"""Ghost clipping: norms and the clipped sum from one forward and one backward pass.

Per-example norms come from each layer's inputs and the gradients at its outputs (Goodfellow
2015; Li et al. 2022). The same two tensors then give the clipped sum, so there is no second
backward pass ("book-keeping", Bu et al. 2023, "Differentially Private Optimization on Large Model
at Small Cost"). Layers take part by the rules of `rules`.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.models.functional import Functional

from tf_mtl_privacy.errors import UsageError

# `linear` and `normalization` register their rules.
from tf_mtl_privacy.privacy.clipping import linear, normalization  # noqa: F401
from tf_mtl_privacy.privacy.clipping.contribution import Contribution
from tf_mtl_privacy.privacy.clipping.request import Clipped, Request, clip_factors, count_skipped
from tf_mtl_privacy.privacy.clipping.rules import LayerRule, refusal, rule_for


def check(model: keras.Model) -> None:
    """Refuses a model that ghost clipping does not support exactly.

    Raises:
        UsageError: the model is not a graph of layers, has a layer with weights but without a
            rule, or uses a weight twice.
    """
    seen: dict[int, str] = {}
    for layer in _layers(model):
        rule_for(layer)
        for variable in layer.trainable_variables:
            if id(variable) in seen:
                raise refusal(
                    layer, f"needs each weight used once; {seen[id(variable)]} has it too"
                )
            seen[id(variable)] = layer.name
    missing = [v.path for v in model.trainable_variables if id(v) not in seen]
    if missing:
        raise UsageError(
            f"model {model.name}: weight {missing[0]} belongs to no layer of its graph; use "
            "clipping='vectorized'"
        )


def clipped_sum(request: Request) -> Clipped:
    """Clips and sums without forming per-example gradients.

    Raises:
        UsageError: a registered rule does not give one gradient per example and weight.
    """
    uses: list[_Use] = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        outputs = _Run(tape, uses, request.training).model(request.model, request.inputs)
        losses = request.losses(outputs)
    deltas = tape.gradient(losses, [use.watched for use in uses], unconnected_gradients="zero")
    parts: dict[int, Contribution] = {}
    for use, delta in zip(uses, deltas, strict=True):
        parts |= _contributions(use, delta, tf.nest.flatten(request.inputs)[0])
    trained = {id(variable) for variable in request.variables}
    squared = tf.add_n([part.squared_norms for key, part in parts.items() if key in trained])
    factors = clip_factors(squared, request.clip, request.mask)
    sums = [parts[id(variable)].weighted_sum(factors) for variable in request.variables]
    return Clipped(losses, sums, count_skipped(factors.finite, request.mask))


class _Use(NamedTuple):
    """Pass of one layer: see `rules.Pass`."""

    layer: Any
    rule: LayerRule
    saved: Any
    watched: Any


class _Run:
    """One run through a graph of layers that saves what ghost clipping needs."""

    def __init__(self, tape: tf.GradientTape, uses: list[_Use], training: bool) -> None:
        self._tape, self._uses, self._training = tape, uses, training

    def model(self, model: keras.Model, inputs: Any) -> Any:
        graph = _graph(model)
        outputs = graph._run_through_graph(
            graph._standardize_inputs(inputs), operation_fn=self._operation
        )
        single = isinstance(outputs, (list, tuple)) and len(outputs) == 1
        return outputs[0] if single else outputs

    def _operation(self, operation: Any) -> Any:
        if _is_graph(operation):
            return lambda inputs, **_: self.model(operation, inputs)
        if getattr(operation, "trainable_variables", None):
            return functools.partial(self._layer, operation)
        return self._as_it_is(operation)

    def _as_it_is(self, operation: Any) -> Any:
        if "training" in getattr(operation, "_call_context_args", {}):
            return lambda *args, **kwargs: operation(*args, **kwargs | {"training": self._training})
        return operation

    def _layer(self, layer: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        rule = rule_for(layer)
        # Watching outputs, and no kernels, limits the backward pass to the layers' outputs.
        if rule.forward is None:
            output = self._as_it_is(layer)(inputs, *args, **kwargs)
            self._tape.watch(output)
            self._uses.append(_Use(layer, rule, inputs, output))
            return output
        saved, watched, output = rule.forward(layer, inputs, self._tape.watch)
        self._uses.append(_Use(layer, rule, saved, watched))
        activation = getattr(layer, "activation", None)
        return output if activation is None else activation(output)


def _contributions(use: _Use, delta: Any, inputs: tf.Tensor) -> dict[int, Contribution]:
    """Returns id of `tf.Variable` -> contribution, for the weights of one layer.

    Raises:
        UsageError: weights are missing or there twice, or norms are not one per example.
        tf.errors.InvalidArgumentError: the same, where the batch size is known only at run time.
    """
    contributions = use.rule.gradients(use.layer, use.saved, delta)
    problem = f"layer {use.layer.name} ({type(use.layer).__name__}): its layer rule must give"
    wanted = sorted(id(variable) for variable in use.layer.trainable_variables)
    if sorted(id(part.variable) for part in contributions if part.variable.trainable) != wanted:
        raise UsageError(f"{problem} one Contribution for each trainable weight")
    problem += " one gradient per example"
    for index, part in enumerate(contributions):
        norms = part.squared_norms
        # A known number of norms for a batch of unknown size was summed or made up. It is refused
        # here, because graph optimization would take it as the batch size.
        if norms.shape[0] not in (None, inputs.shape[0]):
            raise UsageError(f"{problem}; {part.variable.path} has norms of shape {norms.shape}")
        if norms.shape[0] is None:
            same = tf.debugging.assert_equal(tf.size(norms), tf.shape(inputs)[0], problem)
            with tf.control_dependencies([same]):
                contributions[index] = part._replace(squared_norms=tf.identity(norms))
    return {id(part.variable.value): part for part in contributions}


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns each use of a layer with trainable weights, nested models opened."""
    layers: list[keras.layers.Layer] = []
    graph = _graph(model)
    nodes = [node for depth in graph._nodes_by_depth.values() for node in depth]
    for operation in (node.operation for node in nodes if not node.is_input):
        if _is_graph(operation):
            layers += _layers(operation)
        elif getattr(operation, "trainable_variables", None):
            layers.append(operation)
        elif isinstance(operation, keras.layers.Masking):
            raise refusal(operation, "does not carry masks from layer to layer")
    return layers


def _is_graph(operation: Any) -> bool:
    return isinstance(operation, (Functional, keras.Sequential)) and bool(
        operation.trainable_variables
    )


def _graph(model: keras.Model) -> Functional:
    """Returns the functional model behind a functional or sequential one.

    Raises:
        UsageError: its computation is not a graph of layers.
    """
    if type(model) is keras.Sequential and isinstance(model._functional, Functional):
        return model._functional
    if isinstance(model, Functional) and type(model).call is Functional.call:
        return model
    raise UsageError(
        f"model {model.name} ({type(model).__name__}): ghost clipping needs a functional or "
        "built sequential model; use clipping='vectorized'"
    )
