"""Request handling that HTTP and gRPC share: checks, queue, memory budget and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future

import prometheus_client as prometheus

from tf_mtl_privacy.serving.server.batching import Batcher
from tf_mtl_privacy.serving.server.errors import as_request_error
from tf_mtl_privacy.serving.server.limits import Limits, MemoryBudget
from tf_mtl_privacy.serving.server.model import (
    Array,
    Arrays,
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


class Service:
    """The model, its queue, its limits and its metrics.

    Args:
        versions: the served versions.
        limits: bounds.
        metrics: counters.

    Attributes:
        budget: the memory that requests of both interfaces share.
    """

    def __init__(self, versions: Versions, limits: Limits, metrics: Metrics) -> None:
        self.versions, self.limits, self.metrics = versions, limits, metrics
        self.budget = MemoryBudget(limits.max_bytes_in_flight)
        self.batcher = Batcher(limits, metrics.observe_batch)
        metrics.watch_queue(self.batcher.__len__)

    def submit(self, model: Model, signature: str, inputs: Mapping[str, Array]) -> Future[Arrays]:
        """Checks inputs and queues them.

        Args:
            model: a version.
            signature: one of its signatures.
            inputs: arrays of the signature's dtypes.

        Raises:
            RequestError: the inputs do not match the signature, or too many requests wait.
        """
        wanted = model.inputs[signature]
        check_keys(set(inputs), wanted)
        for name, value in inputs.items():
            check_shape(name, value.shape, wanted[name])
        rows = check_rows(inputs, self.limits)
        check_pictures(inputs, self.limits)
        return self.batcher.submit(model, signature, inputs, rows)

    def close(self) -> None:
        """Answers waiting requests and accepts no more."""
        self.batcher.close()


class RequestTimer:
    """Counts one request and its time: `with RequestTimer(..) as timer: ..`.

    Replaces an exception that is not a `RequestError` by one that reveals no internals.

    Attributes:
        signature: set by the caller once it is known to exist.
    """

    def __init__(self, metrics: Metrics, protocol: str) -> None:
        self._metrics, self._protocol = metrics, protocol
        self.signature = ""

    def __enter__(self) -> RequestTimer:
        self._started = time.monotonic()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        shown = as_request_error(error) if error is not None else None
        code = "OK" if shown is None else shown.code.grpc
        seconds = time.monotonic() - self._started
        self._metrics.observe_request(self._protocol, self.signature, code, seconds)
        if shown is not None and shown is not error and isinstance(error, Exception):
            raise shown from None


class Metrics:
    """Prometheus metrics of one server, in their own registry; no request content."""

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
            "Seconds from a request's header to its answer.",
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
            "tf_mtl_privacy_queue", "Requests waiting for the model.", registry=self._registry
        )

    def watch_queue(self, length: Callable[[], int]) -> None:
        """Reads the queue's length from `length` from now on."""
        self._queue.set_function(length)

    def observe_batch(self, rows: int) -> None:
        """Counts a run of the model on `rows` rows."""
        self._rows.observe(rows)

    def observe_request(self, protocol: str, signature: str, code: str, seconds: float) -> None:
        """Counts an answered request.

        Args:
            protocol: `rest`, `grpc` or `page`.
            signature: one that the model has; empty if the request named none of them.
            code: name of a gRPC status.
            seconds: time to the answer.
        """
        self._requests.labels(protocol, signature, code).inc()
        self._seconds.labels(protocol).observe(seconds)

    def text(self) -> bytes:
        """Returns all metrics in Prometheus' text format."""
        return prometheus.generate_latest(self._registry)
