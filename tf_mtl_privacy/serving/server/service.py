"""What both interfaces, HTTP and gRPC, do with a request once they have read it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future

from tf_mtl_privacy.serving.server.batching import Batcher, Outputs
from tf_mtl_privacy.serving.server.budget import Budget
from tf_mtl_privacy.serving.server.checks import (
    check_keys,
    check_pictures,
    check_rows,
    check_shape,
)
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.metrics import Metrics
from tf_mtl_privacy.serving.server.model import Array, Model
from tf_mtl_privacy.serving.server.refusal import Code, Refusal
from tf_mtl_privacy.serving.server.versions import Versions


class Service:
    """The model, its queue, its limits and its counters.

    Args:
        versions: what is served.
        limits: how much of it.
        metrics: what is counted.

    Attributes:
        budget: the memory that requests of both interfaces share.
    """

    def __init__(self, versions: Versions, limits: Limits, metrics: Metrics) -> None:
        self.versions, self.limits, self.metrics = versions, limits, metrics
        self.budget = Budget(limits.bytes_in_flight)
        self.batcher = Batcher(limits, metrics.ran)
        metrics.watch_queue(self.batcher.__len__)

    def submit(self, model: Model, signature: str, inputs: Mapping[str, Array]) -> Future[Outputs]:
        """Checks inputs and queues them.

        Args:
            model: a version.
            signature: one of its signatures.
            inputs: of the dtypes that the signature takes.

        Raises:
            Refusal: they are not what the signature takes, or too many requests wait.
        """
        wanted = model.inputs[signature]
        check_keys(set(inputs), wanted)
        for name, value in inputs.items():
            check_shape(name, value.shape, wanted[name])
        rows = check_rows(inputs, self.limits)
        check_pictures(inputs, self.limits)
        return self.batcher.submit(model, signature, inputs, rows)

    def close(self) -> None:
        """Answers what waits and takes no more."""
        self.batcher.close()


class Measured:
    """Counts one request and its time: `with Measured(..) as request: ..`.

    An exception that is no `Refusal` becomes one that says nothing of the inside.
    """

    def __init__(self, metrics: Metrics, protocol: str) -> None:
        self._metrics, self._protocol = metrics, protocol
        self.signature = ""

    def __enter__(self) -> Measured:
        self._started = time.monotonic()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        refusal = refusal_of(error) if error is not None else None
        code = "OK" if refusal is None else refusal.code.grpc
        seconds = time.monotonic() - self._started
        self._metrics.answered(self._protocol, self.signature, code, seconds)
        if refusal is not None and refusal is not error and isinstance(error, Exception):
            raise refusal from None


def refusal_of(error: BaseException) -> Refusal:
    """What a client is told of an exception."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TimeoutError):
        return Refusal(Code.TIMEOUT, "the answer took too long; try again a little later")
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return Refusal(Code.EXHAUSTED, "not enough memory for this request; send less at once")
    return Refusal(Code.INTERNAL, f"internal error ({type(error).__name__})")
