"""Clients of a server with TensorFlow Serving's interfaces, by REST and by gRPC."""

from tf_mtl_privacy.serving.client.connecting import connect
from tf_mtl_privacy.serving.client.predictor import (
    BadAnswer,
    ClientError,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Predictor,
    Refused,
    Retries,
    Unavailable,
)

__all__ = [
    "BadAnswer",
    "ClientError",
    "DeadlineExceeded",
    "NotFound",
    "Overloaded",
    "Predictor",
    "Refused",
    "Retries",
    "Unavailable",
    "connect",
]
