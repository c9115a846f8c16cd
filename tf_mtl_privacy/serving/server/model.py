"""One loaded version of a SavedModel: its signatures, what they take, and running them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.contract import EXTRA_FOLDER
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.serving.server.refusal import invalid, quoted

Array = np.ndarray[Any, Any]


class Tensor(NamedTuple):
    """An input or output of a signature; `shape` has None for any length."""

    dtype: Any
    shape: tuple[int | None, ...]


class Model:
    """A version of a model.

    Args:
        folder: the version's folder, with `saved_model.pb`; its name is the version's number.

    Raises:
        RunError: it cannot be loaded, or has no signature.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.version = folder, int(folder.name)
        try:
            # Held: its variables live as long as it does.
            self._loaded = tf.saved_model.load(str(folder))
            self.definitions = _definitions(folder)
        except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
            reason = str(error).strip().split("\n", 1)[0][:200]
            raise RunError(f"{folder} cannot be loaded as a SavedModel: {reason}") from error
        self._functions = dict(self._loaded.signatures)
        self.inputs = {name: _inputs(function) for name, function in self._functions.items()}
        if not self._functions:
            raise RunError(f"{folder} has no signature to serve")

    def signature(self, name: str) -> str:
        """`name`, or the default one where it is empty.

        Raises:
            Refusal: there is none of that name.
        """
        name = name or "serving_default"
        if name not in self._functions:
            known = ", ".join(sorted(self._functions))
            raise invalid(
                f"Serving signature name: {quoted(name)} not found in signature def; there are "
                f"{known}"
            )
        return name

    def outputs(self, signature: str) -> set[str]:
        """Names of a signature's outputs."""
        return set(self._functions[signature].structured_outputs)

    def run(self, signature: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Runs a signature.

        Raises:
            Refusal: the model refuses what the inputs hold.
        """
        try:
            found = self._functions[signature](
                **{name: tf.constant(value) for name, value in inputs.items()}
            )
        except tf.errors.InvalidArgumentError as error:
            raise invalid(model_words(error.message)) from None
        return {name: value.numpy() for name, value in found.items()}

    def extra(self, name: str) -> Any:
        """A JSON file of `assets.extra`, or None where there is none that can be read."""
        try:
            return json.loads((self.folder / EXTRA_FOLDER / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None


def model_words(message: str) -> str:
    """What TensorFlow says of a refused input, without the names of nodes and where they stand."""
    text = re.sub(r"\{\{[^}]*\}\}\s*|\[\[.*?\]\]|\[Op:\w*\].*", " ", message)
    text = re.sub(r"^.*?assertion failed:\s*\[?|\bDetected at node.*", "", text, flags=re.DOTALL)
    first = next((line.strip(" []:") for line in text.split("\n") if line.strip(" []:")), "")
    words = re.sub(r"\s+", " ", first.replace("] [", " "))
    return words[:200] or "the model refuses this input"


def _inputs(function: Any) -> dict[str, Tensor]:
    _, named = function.structured_input_signature
    return {
        name: Tensor(
            spec.dtype, (None,) if spec.shape.rank is None else tuple(spec.shape.as_list())
        )
        for name, spec in named.items()
    }


def _definitions(folder: Path) -> dict[str, Any]:
    """Signature -> `SignatureDef`, as the file has them."""
    from tensorflow.core.protobuf import saved_model_pb2

    parsed = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    graph = next(graph for graph in parsed.meta_graphs if "serve" in graph.meta_info_def.tags)
    return {
        name: definition
        for name, definition in graph.signature_def.items()
        if not name.startswith("__")
    }
