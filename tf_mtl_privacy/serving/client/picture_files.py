"""Predictions and restored images for picture files, from a server."""

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

# Task -> class -> probability.
Probabilities = Mapping[str, Mapping[str, float]]
# The prediction and None, or nothing and the reason.
Prediction = tuple[Probabilities, str | None]
_PROBABILITIES = probabilities_key("")
# Bounds of one request, because servers refuse large ones.
_MAX_ROWS, _MAX_BYTES = 32, 8 * 2**20


def classify_files(predictor: Predictor, contents: Sequence[bytes]) -> list[Prediction]:
    """Returns the prediction for each file, or the reason why there is none.

    A file that is not a picture is not sent. If the server refuses a batch, its files are sent one
    by one, so that one bad file does not affect the others.

    Args:
        predictor: the server's model.
        contents: whole files.

    Raises:
        ClientError: the server gives no valid answer.
    """
    predictions: list[Prediction] = [({}, None)] * len(contents)
    pictures: dict[int, bytes] = {}
    for number, content in enumerate(contents):
        try:
            pictures[number] = _supported(content)
        except BadPicture as error:
            predictions[number] = ({}, str(error))
    answers = [
        answer
        for chunk in _chunks(list(pictures.values()))
        for answer in _classify(predictor, chunk)
    ]
    for number, answer in zip(pictures, answers, strict=True):
        predictions[number] = answer
    return predictions


def restore_pixels(predictor: Predictor, pixels: Array) -> Array:
    """Returns the server's restored image, `[S, S, 3]` uint8, for a picture `[H, W, 3]` uint8.

    Raises:
        ClientError: the server gives no valid answer, or has no such signature.
    """
    outputs = predictor.predict({IMAGES: pixels[np.newaxis]}, RESTORE)
    values = only(outputs, RESTORED)[0]
    return np.rint(values * 255.0).clip(0, 255).astype(np.uint8)


def task_classes(predictions: Sequence[Prediction]) -> dict[str, list[str]]:
    """Returns task -> class names, from the first prediction; empty if there is none."""
    for probabilities, error in predictions:
        if error is None:
            return {task: list(classes) for task, classes in probabilities.items()}
    return {}


def _supported(content: bytes) -> bytes:
    """Converts PGM and PPM files, which servers do not decode, to PNG without loss."""
    header = read_header(content)
    return png_bytes(pnm_pixels(content)) if header.format == "pnm" else content


def _chunks(contents: Sequence[bytes]) -> Iterator[list[bytes]]:
    """Splits files, in order, into requests."""
    chunk: list[bytes] = []
    for content in contents:
        size = sum(map(len, chunk)) + len(content)
        if chunk and (len(chunk) == _MAX_ROWS or size > _MAX_BYTES):
            yield chunk
            chunk = []
        chunk.append(content)
    if chunk:
        yield chunk


def _classify(predictor: Predictor, contents: list[bytes]) -> list[Prediction]:
    try:
        outputs = predictor.predict({IMAGE_BYTES: files(contents)})
    except Refused as error:
        if len(contents) == 1:
            return [({}, str(error))]
        return [answer for content in contents for answer in _classify(predictor, [content])]
    return [(row, None) for row in _rows(predictor, outputs)]


def _rows(predictor: Predictor, outputs: Mapping[str, Array]) -> list[dict[str, Any]]:
    tasks = sorted(
        name.removesuffix(_PROBABILITIES) for name in outputs if name.endswith(_PROBABILITIES)
    )
    if not tasks or not all(classes_key(task) in outputs for task in tasks):
        raise BadAnswer(
            f"{predictor}: the answer has no probabilities with class names; expected a model "
            "written by python -m tf_mtl_privacy.export"
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
