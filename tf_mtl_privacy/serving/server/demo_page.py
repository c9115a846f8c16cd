"""The demo page at `/`: its files, its routes, and the predictions it shows for one photo.

Photos are neither stored nor logged.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from tf_mtl_privacy.data.headers import BadPicture, read_header
from tf_mtl_privacy.data.preprocess import decode_content, prepare_pixels
from tf_mtl_privacy.privacy.noise_record import checked_card
from tf_mtl_privacy.reporting.pictures import heat_over, png_bytes
from tf_mtl_privacy.serving.server.errors import invalid
from tf_mtl_privacy.serving.server.model import Array, Arrays, Model
from tf_mtl_privacy.serving.server.rest import Rest, read_body
from tf_mtl_privacy.serving.server.service import RequestTimer, Service
from tf_mtl_privacy.serving_signature import (
    CARD_FILE,
    DEFAULT_SIGNATURE,
    IMAGE_BYTES,
    IMAGES,
    LABELS_FILE,
    MAP,
    REGIONS,
    RESTORE,
    RESTORED,
    classes_key,
    label_key,
    probabilities_key,
)

_FOLDER = Path(__file__).parent / "static"
_FILES = {
    "/": ("index.html", "text/html"),
    "/static/app.js": ("app.js", "text/javascript"),
    "/static/page.css": ("page.css", "text/css"),
}
_PROBABILITIES = probabilities_key("")
_DEFAULT_SIZE = 128


class DemoPage:
    """The routes of the page.

    Args:
        service: handles the requests.
        rest: the REST API, which shares its threads with the page.
    """

    def __init__(self, service: Service, rest: Rest) -> None:
        self._service, self._rest = service, rest

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes to an application."""
        for path, (name, media_type) in _FILES.items():
            app.add_api_route(path, _file(name, media_type), methods=["GET", "HEAD"])
        app.add_api_route("/page/card", self.card, methods=["GET"])
        app.add_api_route("/page/picture", self.picture, methods=["POST"])

    async def card(self) -> Response:
        """Returns the served version and the summary of its privacy card."""
        versions = self._service.versions
        return JSONResponse(model_card(versions.newest, versions.name))

    async def picture(self, request: Request) -> Response:
        """Returns all predictions that the page shows for the photo in the body."""
        rest, budget = self._rest, self._service.budget
        with RequestTimer(self._service.metrics, "page"), budget.share() as share:
            model = self._service.versions.newest
            content = await read_body(request, self._service.limits, share)
            future = self._submit(model, DEFAULT_SIGNATURE, IMAGE_BYTES, _batch_of_one(content))
            attributes = task_predictions(model, await rest.answer(future))
            # A photo's pixels can take a thousand times the memory of its file. Only the model's
            # small version of them waits in the queue.
            with budget.share() as decoded:
                decoded.take(decoded_bytes(content))
                prepared = await rest.in_reader(prepare_photo, model, content)
            images, outputs = model_input(model, prepared), {}
            for name in picture_signatures(model):
                outputs[name] = await rest.answer(self._submit(model, name, IMAGES, images))
            pictures = await rest.in_writer(shown_pictures, prepared, outputs)
        return JSONResponse({"attributes": attributes, "pictures": pictures})

    def _submit(self, model: Model, signature: str, key: str, value: Array) -> Future[Arrays]:
        if set(model.inputs.get(signature, ())) != {key}:
            raise invalid(f"the model has no signature {signature} that takes {key}")
        return self._service.submit(model, signature, {key: value})


def _batch_of_one(content: bytes) -> Array:
    """`[1]` object array of a file."""
    batch = np.empty(1, dtype=object)
    batch[0] = content
    return batch


def _file(name: str, media_type: str) -> Callable[[], Any]:
    content = (_FOLDER / name).read_bytes()

    async def answer() -> Response:
        return Response(content, media_type=media_type)

    return answer


def model_card(model: Model, name: str) -> dict[str, Any]:
    """Returns the model's name, version, and privacy summary, which is None without a card."""
    card = checked_card(model.extra(CARD_FILE) or {})
    return {
        "model": name,
        "version": model.version,
        "summary": card.get("summary"),
        "not_protected": list(card.get("not_protected") or ()),
    }


def task_predictions(model: Model, outputs: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Returns the tasks in the model's order, each with its label and class probabilities.

    Args:
        model: the version that answered.
        outputs: outputs of `serving_default` for one picture.
    """
    labels = model.extra(LABELS_FILE) or {}
    classes = {item["task"]: item["classes"] for item in labels.get("tasks", ())}
    tasks = list(classes) or sorted(
        name.removesuffix(_PROBABILITIES) for name in outputs if name.endswith(_PROBABILITIES)
    )
    return [
        _task_prediction(task, outputs, classes)
        for task in tasks
        if probabilities_key(task) in outputs
    ]


def shown_pictures(
    prepared: Array, outputs: Mapping[str, Mapping[str, Array]]
) -> list[dict[str, str]]:
    """Draws the cropped photo, the restored photo and the map: title, alt text, `data:` URL.

    Args:
        prepared: `[S, S, 3]` uint8, see `prepare_photo`.
        outputs: signature -> its outputs for the photo.
    """
    pictures = [("Your photo, cropped", "The part of your photo that the model sees", prepared)]
    if RESTORE in outputs:
        restored = np.rint(outputs[RESTORE][RESTORED][0] * 255.0).clip(0, 255).astype(np.uint8)
        pictures.append(("Restored", "The photo as restored from the model's features", restored))
    if REGIONS in outputs:
        heat = outputs[REGIONS][MAP][:1]
        if heat.shape[1:] != prepared.shape[:2]:
            heat = tf.image.resize(heat[..., np.newaxis], prepared.shape[:2]).numpy()[..., 0]
        drawn = heat_over(prepared[np.newaxis], heat)[0]
        text = "Your photo in grey, with sensitive regions in yellow"
        pictures.append(("Sensitive regions", text, drawn))
    return [
        {"title": title, "alt": text, "source": _data_url(picture)}
        for title, text, picture in pictures
    ]


def picture_signatures(model: Model) -> list[str]:
    """Returns those of `restore` and `sensitive_regions` that the model has."""
    return [name for name in (RESTORE, REGIONS) if set(model.inputs.get(name, ())) == {IMAGES}]


def decoded_bytes(content: bytes) -> int:
    """Returns the size of a picture file's decoded pixels, from its header.

    Raises:
        RequestError: it is not a picture.
    """
    try:
        header = read_header(content, with_pnm=False)
    except BadPicture as error:
        raise invalid(str(error)) from None
    return 3 * header.height * header.width


def prepare_photo(model: Model, content: bytes) -> Array:
    """Decodes, crops and resizes a picture file as the model does: `[S, S, 3]` uint8.

    Raises:
        RequestError: it cannot be decoded.
    """
    try:
        pixels = decode_content(tf.constant(content))
    except tf.errors.InvalidArgumentError:
        raise invalid("the picture cannot be decoded; save it again as JPEG or PNG") from None
    return prepare_pixels(pixels, *_size_and_crop(model)).numpy()


def model_input(model: Model, prepared: Array) -> Array:
    """Returns pixels that the model's own preparation maps back to `prepared`.

    A model with the crop `inner` also crops pictures that are prepared already. They get a black
    border for it to cut off, up to the smallest side C with 3 C // 4 = S.

    Args:
        model: a version.
        prepared: `[S, S, 3]` uint8, see `prepare_photo`.

    Returns:
        `[1, H, W, 3]` uint8.
    """
    size, crop = _size_and_crop(model)
    if crop == "inner":
        side = -(-4 * size // 3)
        before = (side - size) // 2
        border = (before, side - size - before)
        prepared = np.pad(prepared, (border, border, (0, 0)))
    return prepared[np.newaxis]


def _size_and_crop(model: Model) -> tuple[int, str]:
    labels = model.extra(LABELS_FILE) or {}
    return labels.get("image_size") or _DEFAULT_SIZE, labels.get("crop", "none")


def _task_prediction(
    task: str, outputs: Mapping[str, Array], classes: Mapping[str, list[str]]
) -> dict[str, Any]:
    values = outputs[probabilities_key(task)][0]
    served_names = outputs.get(classes_key(task))
    if served_names is not None:
        names = [name.decode() for name in served_names[0]]
    else:
        names = classes.get(task) or [str(number) for number in range(len(values))]
    label = outputs.get(label_key(task))
    pairs = list(zip(names, values.tolist(), strict=True))
    return {
        "task": task,
        "label": names[int(values.argmax())] if label is None else label[0].decode(),
        "probabilities": [{"name": name, "probability": value} for name, value in pairs],
    }


def _data_url(picture: Array) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode()
