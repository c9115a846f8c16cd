"""REST and gRPC clients for servers with TensorFlow Serving's interfaces."""

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
