"""JSON of TensorFlow Serving's REST API <-> arrays.

Source: TensorFlow Serving, "RESTful API": row format (`instances` -> `predictions`), column format
(`inputs` -> `outputs`), binary values as `{"b64": ..}`, outputs with names that end in `_bytes`.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tf_mtl_privacy.serving.server.checks import check_keys, check_range, is_string
from tf_mtl_privacy.serving.server.hints import (
    base64_hint,
    body_hint,
    number_hint,
    with_hint,
)
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.model import Array, Tensor
from tf_mtl_privacy.serving.server.refusal import invalid, quoted


def parse(body: bytes) -> dict[str, Any]:
    """A request's body as an object.

    Raises:
        Refusal: it is not JSON, or not an object.
    """
    try:
        found = json.loads(body)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        text = f"JSON Parse error: the body is not JSON ({place})"
        raise invalid(with_hint(text, body_hint(body))) from None
    except (ValueError, RecursionError):
        text = "JSON Parse error: the body is not JSON that can be read"
        raise invalid(with_hint(text, body_hint(body))) from None
    if not isinstance(found, dict):
        raise invalid(f"JSON Parse error: expected an object, not {quoted(found)}")
    return found


def signature_name(request: Mapping[str, Any]) -> str:
    """The signature that a request names; empty for the default one.

    Raises:
        Refusal: it is not a string.
    """
    name = request.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"signature_name: expected a string, not {quoted(name)}")
    return name


def read_inputs(
    request: Mapping[str, Any], wanted: Mapping[str, Tensor], limits: Limits
) -> tuple[dict[str, Array], bool]:
    """The inputs of a request, and whether it is in row format.

    Args:
        request: the body.
        wanted: the signature's inputs.
        limits: bounds.

    Raises:
        Refusal: the values are not what the signature takes.
    """
    rows: Any = request.get("instances")
    columns: Any = request.get("inputs")
    if (rows is None) == (columns is None):
        raise invalid("expected either 'instances' (row format) or 'inputs' (column format)")
    if rows is not None:
        if not isinstance(rows, list):
            raise invalid(f"instances: expected a list, not {quoted(rows)}")
        if not 1 <= len(rows) <= limits.rows:
            raise invalid(f"instances: expected 1 to {limits.rows} of them, not {len(rows)}")
        columns = _columns(rows, wanted)
    elif not _named(columns):
        columns = {_only(wanted): columns}
    check_keys(set(columns), wanted)
    found = {name: _array(name, columns[name], wanted[name]) for name in wanted}
    return found, rows is not None


def write_outputs(outputs: Mapping[str, Array], rows: bool) -> bytes:
    """The body of an answer.

    Args:
        outputs: of the signature.
        rows: whether in row format.
    """
    values = {name: _plain(name, value) for name, value in outputs.items()}
    answer: Any = next(iter(values.values())) if len(values) == 1 else values
    if rows and len(values) > 1:
        names = list(values)
        answer = [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return json.dumps({"predictions" if rows else "outputs": answer}).encode()


def _columns(rows: list[Any], wanted: Mapping[str, Tensor]) -> dict[str, list[Any]]:
    if not any(_named(row) for row in rows):
        return {_only(wanted): rows}
    names = set(rows[0]) if isinstance(rows[0], dict) else set()
    if not all(_named(row) and set(row) == names for row in rows):
        raise invalid("instances: expected the same keys in all of them")
    check_keys(names, wanted)
    return {name: [row[name] for row in rows] for name in names}


def _only(wanted: Mapping[str, Tensor]) -> str:
    if len(wanted) != 1:
        raise invalid(f"expected values by name: {', '.join(sorted(wanted))}")
    return next(iter(wanted))


def _named(value: Any) -> bool:
    """Whether it is an object of named values, and not one that stands for bytes."""
    return isinstance(value, dict) and set(value) != {"b64"}


def _array(name: str, value: Any, wanted: Tensor) -> Array:
    try:
        if is_string(wanted):
            found = np.array(_strings(name, value), dtype=object)
            if not all(isinstance(item, bytes) for item in found.reshape(-1)):
                raise ValueError
            return found
        return _numbers(name, _plain_numbers(name, value, wanted), wanted.dtype.as_numpy_dtype)
    except (ValueError, RecursionError):
        raise invalid(f"{name}: expected lists of equal length") from None


def _plain_numbers(name: str, value: Any, wanted: Tensor) -> Array:
    """Numbers of nested lists. Of one long text among them NumPy would make all as long."""
    level = [value]
    while level and isinstance(level[0], list):
        if not all(isinstance(item, list) for item in level):
            raise ValueError
        level = list(itertools.chain.from_iterable(level))
    if not set(map(type, level)) <= {int, float, bool}:
        if any(isinstance(item, list) for item in level):
            raise ValueError
        text = f"{name}: expected values of type {wanted.dtype.name}"
        raise invalid(with_hint(text, number_hint(value)))
    return np.array(value)


def _strings(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_strings(name, item) for item in value]
    if isinstance(value, str):
        return value.encode()
    if not isinstance(value, dict) or not isinstance(value.get("b64"), str):
        raise invalid(f'{name}: expected {{"b64": ".."}} or a string, not {quoted(value)}')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        text = f"{name}: invalid base64 ({error})"
        raise invalid(with_hint(text, base64_hint(value["b64"]))) from None


def _numbers(name: str, found: Array, kind: Any) -> Array:
    kind = np.dtype(kind)
    fits = "iu" if kind.kind in "iu" else "iuf" if kind.kind == "f" else "b"
    if found.size and found.dtype.kind not in fits:
        raise invalid(f"{name}: expected values of type {kind.name}")
    if found.size and kind.kind in "iu":
        check_range(name, found.min(), found.max(), kind)
    return found.astype(kind)


def _plain(name: str, value: Array) -> Any:
    plain = value.tolist()
    return _texts(plain, name.endswith("_bytes")) if value.dtype == object else plain


def _texts(value: Any, binary: bool) -> Any:
    if isinstance(value, list):
        return [_texts(item, binary) for item in value]
    if binary:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode("utf-8", "replace")
