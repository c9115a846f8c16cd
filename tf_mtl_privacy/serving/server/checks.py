"""Checks that a request holds what the signature takes, before the model sees any of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.contract import IMAGE_BYTES
from tf_mtl_privacy.data.headers import BadPicture, read_header
from tf_mtl_privacy.serving.server.hints import AS_JSON, picture_hint, with_hint
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.model import Array, Tensor
from tf_mtl_privacy.serving.server.refusal import invalid, quoted


def check_keys(given: set[str], wanted: Mapping[str, Tensor]) -> None:
    """Checks that exactly the wanted inputs are there.

    Raises:
        Refusal: one is missing, or there is one too many.
    """
    if given != set(wanted):
        text = (
            f"expected the inputs {', '.join(sorted(wanted))}, not "
            f"{', '.join(quoted(name) for name in sorted(given)[:8]) or 'none'}"
        )
        # Such as {"base64": ..} for {"b64": ..}.
        is_file = set(wanted) == {IMAGE_BYTES} and len(given) == 1
        raise invalid(with_hint(text, f"a picture in JSON is {AS_JSON}" if is_file else ""))


def check_shape(name: str, shape: tuple[int, ...], wanted: Tensor) -> None:
    """Checks that a shape is one that the signature takes.

    Raises:
        Refusal: it is not.
    """
    fits = len(shape) == len(wanted.shape) and all(
        size is None or size == found for found, size in zip(shape, wanted.shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in wanted.shape)
        raise invalid(f"{name}: expected shape [{expected}], not {list(shape)[:8]}")


def check_range(name: str, least: int, most: int, kind: Any) -> None:
    """Checks that whole numbers from `least` to `most` fit into the NumPy integer type `kind`.

    Raises:
        Refusal: they do not.
    """
    bounds = np.iinfo(kind)
    if least < bounds.min or most > bounds.max:
        raise invalid(f"{name}: expected values in [{bounds.min}, {bounds.max}]")


def check_rows(inputs: Mapping[str, Array], limits: Limits) -> int:
    """Returns the number of rows that all inputs share.

    Raises:
        Refusal: they differ, there is none, or there are too many.
    """
    counts = {name: value.shape[0] if value.ndim else 1 for name, value in inputs.items()}
    rows = next(iter(counts.values()))
    if set(counts.values()) != {rows}:
        raise invalid(f"inputs of different length: {counts}")
    if not 1 <= rows <= limits.rows:
        raise invalid(f"expected 1 to {limits.rows} pictures in a request, not {rows}")
    return rows


def check_pictures(inputs: Mapping[str, Array], limits: Limits) -> None:
    """Checks by their headers that encoded pictures may be decoded.

    Raises:
        Refusal: one is not a JPEG, PNG or BMP, is cut short, too small or too large, or all of
            them together have too many pixels.
    """
    contents = inputs.get(IMAGE_BYTES)
    if contents is None:
        return
    pixels = 0
    for row, content in enumerate(contents.reshape(-1)):
        try:
            header = read_header(content, with_pnm=False)
        except BadPicture as error:
            text = with_hint(f"picture {row}: {error}", picture_hint(content))
            raise invalid(text) from None
        pixels += header.height * header.width
    if pixels > limits.pixels:
        raise invalid(
            f"the pictures have {pixels / 1e6:.0f} megapixels together, more than "
            f"{limits.pixels / 1e6:.0f}; send fewer at once"
        )


def is_string(tensor: Tensor) -> bool:
    """Returns True if a tensor holds bytes."""
    return tensor.dtype == tf.string
