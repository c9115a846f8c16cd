"""A client of TensorFlow Serving's REST API; needs no TensorFlow."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx
import numpy as np

from tf_mtl_privacy.serving.client.predictor import (
    Array,
    BadAnswer,
    ClientError,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    Predictor,
    Refused,
    Unavailable,
    address_and_user,
)

_LONGEST_WAIT_ASKED = 60.0


class RestPredictor(Predictor):
    """Asks by HTTP, in column format.

    Args:
        url: of the server, `http://HOST:PORT` or `https://..`, with a path before `/v1` or none.
            A name and password before the host are sent as HTTP's basic authentication.
        options: as for `Predictor`.
        transport: for tests.
    """

    def __init__(
        self, url: str, *options: Any, transport: httpx.BaseTransport | None = None, **more: Any
    ) -> None:
        super().__init__(*options, **more)
        # Kept apart from the address, which messages and logs hold.
        self._url, auth = address_and_user(url)
        # The environment's proxies are for the world outside, not for a server that was named.
        self._http = httpx.Client(transport=transport, trust_env=False, auth=auth)

    @property
    def address(self) -> str:
        """The server's address, without a password."""
        return self._url

    def close(self) -> None:
        """Ends the connections."""
        self._http.close()

    def _ask(self, inputs: Mapping[str, Array], signature: str, left: float) -> dict[str, Array]:
        body: dict[str, Any] = {"inputs": {name: _plain(value) for name, value in inputs.items()}}
        if signature:
            body["signature_name"] = signature
        version = "" if self.version is None else f"/versions/{self.version}"
        path = f"{self._url}/v1/models/{self.model_name}{version}:predict"
        try:
            status, headers, content = self._post(path, json.dumps(body).encode(), left)
        except httpx.TimeoutException as error:
            raise DeadlineExceeded(f"{self}: no answer within {left:.3g} s") from error
        except httpx.TransportError as error:
            raise Unavailable(f"{self}: {error or type(error).__name__}") from error
        if status != 200:
            raise self._failure(status, headers, content)
        return self._outputs(content, inputs)

    def _post(self, path: str, body: bytes, left: float) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and body; httpx bounds each step, this all of them together."""
        end = time.monotonic() + left
        headers = {"content-type": "application/json"}
        with self._http.stream(
            "POST", path, content=body, headers=headers, timeout=left
        ) as response:
            parts = []
            for part in response.iter_bytes():
                parts.append(part)
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the answer comes too slowly")
            return response.status_code, response.headers, b"".join(parts)

    def _failure(self, status: int, headers: httpx.Headers, content: bytes) -> ClientError:
        text = f"{self}: HTTP {status}: {_told(content)}"
        if status == 429:
            return Overloaded(text, _seconds(headers.get("retry-after", "")))
        if status in (502, 503):
            return Unavailable(text, _seconds(headers.get("retry-after", "")))
        if status in (408, 504):
            return DeadlineExceeded(text)
        if status == 404:
            return NotFound(text)
        return Refused(text) if 400 <= status < 500 else BadAnswer(text)

    def _outputs(self, content: bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
        try:
            found = json.loads(content)["outputs"]
            # With one output only, the API leaves its name out.
            named = found if isinstance(found, dict) else {"": found}
            return {name: _array(value) for name, value in named.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise BadAnswer(f"{self}: the answer is not what the REST API promises") from error


def _plain(value: Array) -> Any:
    if value.dtype != object:
        return value.tolist()
    return [{"b64": base64.b64encode(content).decode()} for content in value]


def _array(value: Any) -> Array:
    found = np.array(value)
    if found.dtype.kind == "U":
        return found.astype(object)
    if found.dtype.kind not in "iufb":
        raise ValueError("neither numbers nor strings")
    return found.astype(np.float32) if found.dtype.kind == "f" else found


def _told(content: bytes) -> str:
    """What the server says, in one line of at most 300 characters."""
    try:
        text = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        text = content[:300].decode("utf-8", "replace")
    return " ".join(str(text).split())[:300] or "no reason given"


def _seconds(text: str) -> float:
    return min(float(text), _LONGEST_WAIT_ASKED) if text.isdecimal() else 0.0
