"""Ghost clipping: norms and the clipped sum from one forward and one backward pass.

Per-example norms come from each layer's inputs and the gradients at its outputs (Goodfellow
2015; Li et al. 2022). The same two tensors then give the clipped sum, so that there is no second
backward pass ("book-keeping", Bu et al. 2023, "Differentially Private Optimization on Large Model
at Small Cost").
"""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf
from keras.src.models.functional import Functional

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.privacy.clipping.request import Clipped, Request, clip_factors, count_skipped
from tf_mtl_privacy.privacy.clipping.rules import Rule, refusal, rule_for


class Use(NamedTuple):
    """One layer's pass: what its gradients need of its input, and the gradients of what."""

    layer: Any
    rule: Rule
    kept: Any
    watched: Any


def check(model: keras.Model) -> None:
    """Refuses a model that ghost clipping cannot do exactly.

    Raises:
        UsageError: the model is no graph of layers, holds a layer with weights that is not
            known, or uses weights twice.
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
    """Clips and sums without per-example gradients (see the module's text)."""
    uses: list[Use] = []
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        outputs = _Pass(tape, uses, request.training).run(request.model, request.inputs)
        losses = request.losses(outputs)
    deltas = tape.gradient(losses, [use.watched for use in uses], unconnected_gradients="zero")
    trained = {id(variable) for variable in request.variables}
    found = [
        contribution
        for use, delta in zip(uses, deltas, strict=True)
        for contribution in use.rule.contributions(use.layer, use.kept, delta)
        if id(contribution.variable.value) in trained
    ]
    squared = tf.add_n([contribution.squared_norms for contribution in found])
    factors = clip_factors(squared, request.clip, request.mask)
    sums = {id(part.variable.value): part.weighted_sum(factors) for part in found}
    ordered = [sums[id(variable)] for variable in request.variables]
    return Clipped(losses, ordered, count_skipped(factors.finite, request.mask))


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Each use of a layer with trainable weights, nested models opened."""
    found: list[keras.layers.Layer] = []
    for operation in _operations(model):
        if _is_graph(operation):
            found += _layers(operation)
        elif getattr(operation, "trainable_variables", None):
            found.append(operation)
        elif isinstance(operation, keras.layers.Masking):
            raise refusal(operation, "does not carry masks from layer to layer")
    return found


def _operations(model: keras.Model) -> list[Any]:
    graph = _graph(model)
    nodes = [node for depth in graph._nodes_by_depth.values() for node in depth]
    return [node.operation for node in nodes if not node.is_input]


def _is_graph(operation: Any) -> bool:
    return isinstance(operation, (Functional, keras.Sequential)) and bool(
        operation.trainable_variables
    )


def _graph(model: keras.Model) -> Functional:
    """The functional model behind a functional or sequential one.

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


class _Pass:
    """One run through a graph of layers that keeps what ghost clipping needs."""

    def __init__(self, tape: tf.GradientTape, uses: list[Use], training: bool) -> None:
        self._tape, self._uses, self._training = tape, uses, training

    def run(self, model: keras.Model, inputs: Any) -> Any:
        graph = _graph(model)
        outputs = graph._run_through_graph(
            graph._standardize_inputs(inputs), operation_fn=self._operation
        )
        single = isinstance(outputs, (list, tuple)) and len(outputs) == 1
        return outputs[0] if single else outputs

    def _operation(self, operation: Any) -> Any:
        if _is_graph(operation):
            return lambda inputs, **_: self.run(operation, inputs)
        if getattr(operation, "trainable_variables", None):
            return lambda inputs, **_: self._layer(operation, inputs)
        if "training" in getattr(operation, "_call_context_args", {}):
            return lambda *args, **kwargs: operation(*args, **kwargs | {"training": self._training})
        return operation

    def _layer(self, layer: Any, inputs: tf.Tensor) -> tf.Tensor:
        rule = rule_for(layer)
        # Watching outputs, and no kernels, keeps the backward pass to what lies between.
        kept, watched, output = rule.forward(layer, inputs, self._tape.watch)
        self._uses.append(Use(layer, rule, kept, watched))
        activation = getattr(layer, "activation", None)
        return output if activation is None else activation(output)
