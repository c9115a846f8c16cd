"""Clients of a server with TensorFlow Serving's interfaces, by REST and by gRPC."""

from tf_mtl_privacy.serving.client.connecting import connect
from tf_mtl_privacy.serving.client.errors import (
    BadAnswer,
    ClientError,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Refused,
    Unavailable,
)
from tf_mtl_privacy.serving.client.predictor import Predictor
from tf_mtl_privacy.serving.client.retries import Retries

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
