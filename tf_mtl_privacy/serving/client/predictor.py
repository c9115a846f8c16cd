"""What clients by REST and by gRPC have in common."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tf_mtl_privacy.serving.client.errors import BadAnswer
from tf_mtl_privacy.serving.client.retries import Retries

Array = np.ndarray[Any, Any]
DEFAULT_SECONDS, DEFAULT_BATCH = 60.0, 32


class Predictor(abc.ABC):
    """Asks one model of one server; use as a context manager, or call `close`.

    Args:
        model_name: the model.
        version: its version; None for the newest.
        seconds: time that one request has, tries and waits together.
        retries: when it is tried again.
    """

    def __init__(
        self,
        model_name: str,
        version: int | None = None,
        *,
        seconds: float = DEFAULT_SECONDS,
        retries: Retries | None = None,
    ) -> None:
        self.model_name, self.version = model_name, version
        self._seconds, self._retries = seconds, retries or Retries()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def predict(self, inputs: Mapping[str, Array], signature: str = "") -> dict[str, Array]:
        """Asks for one batch in one request.

        Args:
            inputs: name -> `[B, ..]`: uint8 pixels, or an object array of bytes.
            signature: its name; empty for `serving_default`.

        Returns:
            Output name -> `[B, ..]`; strings as an object array of str.

        Raises:
            ClientError: there is no answer, see `errors`.
        """
        rows = {len(value) for value in inputs.values()}
        found = self._retries.call(lambda left: self._ask(inputs, signature, left), self._seconds)
        if {len(value) if value.ndim else 0 for value in found.values()} != rows:
            raise BadAnswer(f"{self}: the answer has not as many rows as the request")
        return found

    def predict_batches(
        self, inputs: Mapping[str, Array], signature: str = "", batch: int = DEFAULT_BATCH
    ) -> Iterator[dict[str, Array]]:
        """As `predict`, with at most `batch` rows in a request; yields the answers in order."""
        rows = max(len(value) for value in inputs.values())
        for start in range(0, rows, batch):
            yield self.predict(
                {name: value[start : start + batch] for name, value in inputs.items()}, signature
            )

    def __str__(self) -> str:
        version = "" if self.version is None else f" version {self.version}"
        return f"{self.address} model {self.model_name}{version}"

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """The server's address, for messages."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends the connection."""

    @abc.abstractmethod
    def _ask(self, inputs: Mapping[str, Array], signature: str, left: float) -> dict[str, Array]:
        """One try of a request, within `left` seconds."""


def files(contents: list[bytes]) -> Array:
    """Picture files as a batch `[B]` for an input of bytes."""
    batch = np.empty(len(contents), dtype=object)
    batch[:] = contents
    return batch


def only(outputs: Mapping[str, Array], name: str) -> Array:
    """The output `name`, also where an answer of one output left its name out."""
    return outputs[name] if name in outputs else outputs[""]
