"""Client of TensorFlow Serving's REST API; it does not need TensorFlow."""

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
    one_line,
)

_MAX_RETRY_AFTER = 60.0


class RestPredictor(Predictor):
    """Sends requests over HTTP, in column format.

    Args:
        url: the server's URL, `http://HOST:PORT` or `https://..`, optionally with a path before
            `/v1`. A name and password before the host are sent as HTTP basic authentication.
        options: as for `Predictor`.
        transport: for tests.
    """

    def __init__(
        self, url: str, *options: Any, transport: httpx.BaseTransport | None = None, **more: Any
    ) -> None:
        super().__init__(*options, **more)
        # The password is kept out of the address, which appears in messages and logs.
        self._url, auth = address_and_user(url)
        # Proxies of the environment are not used for a server that the user names.
        self._http = httpx.Client(transport=transport, trust_env=False, auth=auth)

    @property
    def address(self) -> str:
        """The server's URL, without a password."""
        return self._url

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def _send(self, inputs: Mapping[str, Array], signature: str, left: float) -> dict[str, Array]:
        body: dict[str, Any] = {"inputs": {name: _to_json(value) for name, value in inputs.items()}}
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
        return self._outputs(content)

    def _post(self, path: str, body: bytes, left: float) -> tuple[int, httpx.Headers, bytes]:
        """Returns status, headers and body; httpx limits each step, `left` all steps together."""
        end = time.monotonic() + left
        headers = {"content-type": "application/json"}
        with self._http.stream(
            "POST", path, content=body, headers=headers, timeout=left
        ) as response:
            parts = []
            for part in response.iter_bytes():
                parts.append(part)
                if time.monotonic() > end:
                    raise httpx.ReadTimeout("the answer is too slow")
            return response.status_code, response.headers, b"".join(parts)

    def _failure(self, status: int, headers: httpx.Headers, content: bytes) -> ClientError:
        text = f"{self}: HTTP {status}: {_reason(content)}"
        if status == 429:
            return Overloaded(text, _seconds(headers.get("retry-after", "")))
        if status in (502, 503):
            return Unavailable(text, _seconds(headers.get("retry-after", "")))
        if status in (408, 504):
            return DeadlineExceeded(text)
        if status == 404:
            return NotFound(text)
        return Refused(text) if 400 <= status < 500 else BadAnswer(text)

    def _outputs(self, content: bytes) -> dict[str, Array]:
        try:
            outputs = json.loads(content)["outputs"]
            # The API leaves out the name of a single output.
            named = outputs if isinstance(outputs, dict) else {"": outputs}
            return {name: _array(value) for name, value in named.items()}
        except (ValueError, KeyError, TypeError) as error:
            raise BadAnswer(f"{self}: the answer does not follow the REST API") from error


def _to_json(value: Array) -> Any:
    if value.dtype != object:
        return value.tolist()
    return [{"b64": base64.b64encode(content).decode()} for content in value]


def _array(value: Any) -> Array:
    array = np.array(value)
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind not in "iufb":
        raise ValueError("neither numbers nor strings")
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _reason(content: bytes) -> str:
    """Returns the server's error message as one line."""
    try:
        text = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        text = content[:300].decode("utf-8", "replace")
    return one_line(text)


def _seconds(text: str) -> float:
    return min(float(text), _MAX_RETRY_AFTER) if text.isdecimal() else 0.0
