"""Receives a message of gRPC within bounds of time and memory.

gRPC's own handlers for one message wait for it without an end, and tell its size to nobody. On the
wire a call with one message is a stream of one, and a stream is read by our own threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from tf_mtl_privacy.serving.server.budget import Share
from tf_mtl_privacy.serving.server.refusal import Code, Refusal, invalid
from tf_mtl_privacy.serving.server.service import Service, refusal_of


class Receiver:
    """Makes handlers that read a message of gRPC before they answer it.

    Args:
        service: whose limits, memory and counters it uses.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        # A thread that waits for a message ends with its call, which the refusal ends.
        self._waiting = ThreadPoolExecutor(service.limits.queue, "grpc-read")

    def handler(self, answer: Callable[[Callable[[], Any], Any], Any], message: Any) -> Any:
        """A handler of gRPC.

        Args:
            answer: (function that receives the message, context) -> the answer's message; both
                functions raise `Refusal`.
            message: class of what is received.
        """

        def respond(contents: Iterator[bytes], context: Any) -> Any:
            try:
                with self._service.budget.share() as share:
                    return answer(lambda: self._received(contents, share, message), context)
            except Exception as error:
                refusal = refusal_of(error)
                context.abort(grpc.StatusCode[refusal.code.grpc], str(refusal))

        return grpc.stream_unary_rpc_method_handler(
            respond, response_serializer=lambda found: found.SerializeToString()
        )

    def _received(self, contents: Iterator[bytes], share: Share, message: Any) -> Any:
        seconds = self._service.limits.client_seconds
        coming = self._waiting.submit(next, contents, None)
        try:
            content = coming.result(seconds)
        except TimeoutError:
            raise Refusal(
                Code.SLOW_CLIENT, f"the request took more than {seconds:g} s to come in"
            ) from None
        if content is None:
            raise invalid("the request has no message")
        share.take(len(content))
        try:
            return message.FromString(content)
        except DecodeError:
            raise invalid("the message is not one of this call's kind") from None
