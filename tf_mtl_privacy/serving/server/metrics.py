"""Counters for Prometheus, in a registry of their own so that two servers never mix."""

from __future__ import annotations

from collections.abc import Callable

import prometheus_client as prometheus

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
