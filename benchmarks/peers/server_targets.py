"""Targets of `benchmarks/serving.py` that use the check server in a separate process."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from check_server import running

from tf_mtl_privacy.serving.client import connect
from tf_mtl_privacy.serving.client.predictor import files
from tf_mtl_privacy.serving_signature import CLASSIFY, IMAGE_BYTES, IMAGES

if TYPE_CHECKING:
    from serving_targets import Served

Ask = Callable[[slice], dict[str, Any]]


@contextlib.contextmanager
def grpc_classify(served: Served) -> Iterator[Ask]:
    """`classify` over gRPC, with pixels."""
    with (
        running(str(served.folder.parent)) as server,
        connect(f"grpc://{server.grpc}", server.name) as client,
    ):
        yield lambda rows: client.predict({IMAGES: served.images[rows]}, CLASSIFY)


@contextlib.contextmanager
def rest_default(served: Served) -> Iterator[Ask]:
    """`serving_default` over REST, with JPEG files as base64."""
    with (
        running(str(served.folder.parent)) as server,
        connect(server.rest, server.name) as client,
    ):
        yield lambda rows: client.predict({IMAGE_BYTES: files(served.files[rows])})
