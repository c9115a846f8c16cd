"""What both interfaces, HTTP and gRPC, do with a request once they have read it.

Counters for Prometheus, in a registry of their own so that two servers never mix.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

import prometheus_client as prometheus

from tf_mtl_privacy.serving.server.batching import Batcher, Outputs
from tf_mtl_privacy.serving.server.errors import Code, Refusal
from tf_mtl_privacy.serving.server.limits import Budget, Limits
from tf_mtl_privacy.serving.server.model import (
    Array,
    Model,
    check_keys,
    check_pictures,
    check_rows,
    check_shape,
)
from tf_mtl_privacy.serving.server.versions import Versions

CONTENT_TYPE = prometheus.CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """What a server counts; nothing of what was sent."""

    def __init__(self) -> None:
        self._registry = prometheus.CollectorRegistry()
        prometheus.ProcessCollector(registry=self._registry)
        self._requests = prometheus.Counter(
            "tf_mtl_privacy_requests",
            "Requests by protocol, signature and code.",
            ("protocol", "signature", "code"),
            registry=self._registry,
        )
        self._seconds = prometheus.Histogram(
            "tf_mtl_privacy_request_seconds",
            "From the request's header to the answer.",
            ("protocol",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._rows = prometheus.Histogram(
            "tf_mtl_privacy_batch_rows",
            "Pictures in a run of the model.",
            buckets=_ROWS,
            registry=self._registry,
        )
        self._queue = prometheus.Gauge(
            "tf_mtl_privacy_queue", "Requests that wait for the model.", registry=self._registry
        )

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Reads the queue's length by `length` from now on."""
        self._queue.set_function(length)

    def ran(self, rows: int) -> None:
        """The model has run on so many rows."""
        self._rows.observe(rows)

    def answered(self, protocol: str, signature: str, code: str, seconds: float) -> None:
        """A request was answered.

        Args:
            protocol: `rest` or `grpc`.
            signature: one that the model has; empty where the request named none of them.
            code: the name of a status of gRPC.
            seconds: how long it took.
        """
        self._requests.labels(protocol, signature, code).inc()
        self._seconds.labels(protocol).observe(seconds)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return prometheus.generate_latest(self._registry)


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
