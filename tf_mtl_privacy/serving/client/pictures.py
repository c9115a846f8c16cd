"""Predictions for picture files by a server, in the form of those by a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tf_mtl_privacy.data.headers import BadPicture, pnm_pixels, read_header
from tf_mtl_privacy.reporting.pictures import png_bytes
from tf_mtl_privacy.serving.client.predictor import (
    Array,
    BadAnswer,
    Predictor,
    Refused,
    files,
    only,
)
from tf_mtl_privacy.serving_signature import (
    IMAGE_BYTES,
    IMAGES,
    RESTORE,
    RESTORED,
    classes_key,
    probabilities_key,
)

Probabilities = Mapping[str, Mapping[str, float]]
_END = probabilities_key("")
# Of files in one request: servers refuse large ones.
_MOST_ROWS, _MOST_BYTES = 32, 8 * 2**20


def classify_files(
    predictor: Predictor, contents: Sequence[bytes]
) -> list[tuple[Probabilities, str | None]]:
    """Task -> class -> probability, and None, of each file; or nothing, and why.

    A file that is no picture is not sent. Where the server refuses a batch, its files are sent one
    by one, so that the others are read.

    Args:
        predictor: the server's model.
        contents: whole files.

    Raises:
        ClientError: the server does not answer, or not in the promised form.
    """
    found: list[tuple[Probabilities, str | None]] = [({}, None)] * len(contents)
    good: dict[int, bytes] = {}
    for number, content in enumerate(contents):
        try:
            good[number] = _sendable(content)
        except BadPicture as error:
            found[number] = ({}, str(error))
    answers = [
        answer for some in _chunks(list(good.values())) for answer in _classify(predictor, some)
    ]
    for number, answer in zip(good, answers, strict=True):
        found[number] = answer
    return found


def restore_pixels(predictor: Predictor, pixels: Array) -> Array:
    """What the server restores of a picture `[H, W, 3]` uint8: `[S, S, 3]` uint8.

    Raises:
        ClientError: the server does not answer, refuses, or has no such signature.
    """
    outputs = predictor.predict({IMAGES: pixels[np.newaxis]}, RESTORE)
    values = only(outputs, RESTORED)[0]
    return np.rint(values * 255.0).clip(0, 255).astype(np.uint8)


def task_classes(found: Sequence[tuple[Probabilities, str | None]]) -> dict[str, list[str]]:
    """Tasks and their classes, as the answers name them; empty where there is no answer."""
    for probabilities, error in found:
        if error is None:
            return {task: list(classes) for task, classes in probabilities.items()}
    return {}


def _sendable(content: bytes) -> bytes:
    """A file as the server takes it: PGM and PPM as PNG, without loss."""
    header = read_header(content)
    return png_bytes(pnm_pixels(content)) if header.format == "pnm" else content


def _chunks(contents: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Files in order, as many as go into one request."""
    chunk: list[bytes] = []
    for content in contents:
        size = sum(map(len, chunk)) + len(content)
        if chunk and (len(chunk) == _MOST_ROWS or size > _MOST_BYTES):
            yield chunk
            chunk = []
        chunk.append(content)
    if chunk:
        yield chunk


def _classify(
    predictor: Predictor, contents: list[bytes]
) -> list[tuple[Probabilities, str | None]]:
    try:
        outputs = predictor.predict({IMAGE_BYTES: files(contents)})
    except Refused as error:
        if len(contents) == 1:
            return [({}, str(error))]
        return [answer for content in contents for answer in _classify(predictor, [content])]
    return [(row, None) for row in _rows(predictor, outputs)]


def _rows(predictor: Predictor, outputs: Mapping[str, Array]) -> list[dict[str, Any]]:
    tasks = sorted(name.removesuffix(_END) for name in outputs if name.endswith(_END))
    if not tasks or not all(classes_key(task) in outputs for task in tasks):
        raise BadAnswer(
            f"{predictor}: the answer has no probabilities with names of classes; expected a model "
            "that python -m tf_mtl_privacy.export has written"
        )
    named = {task: (outputs[classes_key(task)], outputs[probabilities_key(task)]) for task in tasks}
    rows = len(outputs[probabilities_key(tasks[0])])
    return [
        {
            task: dict(zip(names[row], map(float, values[row]), strict=True))
            for task, (names, values) in named.items()
        }
        for row in range(rows)
    ]
