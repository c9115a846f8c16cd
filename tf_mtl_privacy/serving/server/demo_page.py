"""The web page at `/`, its files, and what it asks the server for.

What the page shows of one photo: attributes, and pictures as data. Nothing of it is kept.
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
from tf_mtl_privacy.serving.server.batching import Outputs
from tf_mtl_privacy.serving.server.errors import invalid
from tf_mtl_privacy.serving.server.model import Array, Model
from tf_mtl_privacy.serving.server.rest import Rest, read_body
from tf_mtl_privacy.serving.server.service import Measured, Service
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

_END = "_probabilities"
_DEFAULT_SIZE = 128


def picture_signatures(model: Model) -> list[str]:
    """Those of `restore` and `sensitive_regions` that the model has."""
    return [name for name in (RESTORE, REGIONS) if set(model.inputs.get(name, ())) == {IMAGES}]


def decoded_bytes(content: bytes) -> int:
    """Size of a picture file's pixels once it is decoded, by its header.

    Raises:
        Refusal: it is not a picture.
    """
    try:
        header = read_header(content, with_pnm=False)
    except BadPicture as error:
        raise invalid(str(error)) from None
    return 3 * header.height * header.width


def reduced(model: Model, content: bytes) -> Array:
    """What the model sees of a picture file, `[S, S, 3]` uint8: large pixels end here.

    Raises:
        Refusal: it cannot be decoded.
    """
    try:
        pixels = decode_content(tf.constant(content))
    except tf.errors.InvalidArgumentError:
        raise invalid("the picture cannot be decoded") from None
    return prepare_pixels(pixels, *_size_and_crop(model)).numpy()


def framed(model: Model, seen: Array) -> Array:
    """Pixels that the model prepares to `seen` again, `[1, H, W, 3]` uint8.

    A model that takes the inner part of a picture does so of one that is prepared already, too.
    Such a one is given a black frame, which that crop cuts off: of the least side C with
    3 C // 4 = S.

    Args:
        model: what is asked.
        seen: `[S, S, 3]` uint8, as `reduced` has it.
    """
    size, crop = _size_and_crop(model)
    if crop == "inner":
        side = -(-4 * size // 3)
        before = (side - size) // 2
        border = (before, side - size - before)
        seen = np.pad(seen, (border, border, (0, 0)))
    return seen[np.newaxis]


def attributes(model: Model, outputs: Mapping[str, Array]) -> list[dict[str, Any]]:
    """Tasks in the model's order, each with its label and the probabilities of its classes.

    Args:
        model: what answered.
        outputs: of `serving_default`, for one picture.
    """
    labels = model.extra(LABELS_FILE) or {}
    named = {item["task"]: item["classes"] for item in labels.get("tasks", ())}
    tasks = list(named) or sorted(
        name.removesuffix(_END) for name in outputs if name.endswith(_END)
    )
    return [
        _attribute(task, outputs, named) for task in tasks if probabilities_key(task) in outputs
    ]


def pictures(seen: Array, outputs: Mapping[str, Mapping[str, Array]]) -> list[dict[str, str]]:
    """What the model sees of a photo, what it restores and marks: title, text, `data:` address.

    Args:
        seen: `[S, S, 3]` uint8, what the model sees of the photo.
        outputs: signature -> its outputs for the photo.
    """
    found = [("Your photo, cropped", "The part of your photo that the model sees", seen)]
    if RESTORE in outputs:
        restored = np.rint(outputs[RESTORE][RESTORED][0] * 255.0).clip(0, 255).astype(np.uint8)
        found.append(
            ("Restored", "What is restored from the features, without what is hidden", restored)
        )
    if REGIONS in outputs:
        heat = outputs[REGIONS][MAP][:1]
        if heat.shape[1:] != seen.shape[:2]:
            heat = tf.image.resize(heat[..., np.newaxis], seen.shape[:2]).numpy()[..., 0]
        drawn = heat_over(seen[np.newaxis], heat)[0]
        found.append(("Sensitive regions", "Your photo in grey, sensitive regions yellow", drawn))
    return [
        {"title": title, "alt": text, "source": _address(picture)} for title, text, picture in found
    ]


def card(model: Model, name: str) -> dict[str, Any]:
    """The model's name and the privacy card's summary; null where it has no card."""
    found = checked_card(model.extra(CARD_FILE) or {})
    return {
        "model": name,
        "version": model.version,
        "summary": found.get("summary"),
        "not_protected": list(found.get("not_protected") or ()),
    }


def _size_and_crop(model: Model) -> tuple[int, str]:
    labels = model.extra(LABELS_FILE) or {}
    return labels.get("image_size") or _DEFAULT_SIZE, labels.get("crop", "none")


def _attribute(
    task: str, outputs: Mapping[str, Array], named: Mapping[str, list[str]]
) -> dict[str, Any]:
    values = outputs[probabilities_key(task)][0]
    told = outputs.get(classes_key(task))
    if told is not None:
        names = [name.decode() for name in told[0]]
    else:
        names = named.get(task) or [str(number) for number in range(len(values))]
    label = outputs.get(label_key(task))
    pairs = list(zip(names, values.tolist(), strict=True))
    return {
        "task": task,
        "label": names[int(values.argmax())] if label is None else label[0].decode(),
        "probabilities": [{"name": name, "probability": value} for name, value in pairs],
    }


def _address(picture: Array) -> str:
    return "data:image/png;base64," + base64.b64encode(png_bytes(picture)).decode()


_FOLDER = Path(__file__).parent / "static"
_FILES = {
    "/": ("index.html", "text/html"),
    "/static/app.js": ("app.js", "text/javascript"),
    "/static/page.css": ("page.css", "text/css"),
}


class Page:
    """The routes of the page, over a service.

    Args:
        service: what answers.
        rest: whose threads and memory it shares.
    """

    def __init__(self, service: Service, rest: Rest) -> None:
        self._service, self._rest = service, rest

    def add_to(self, app: FastAPI) -> None:
        """Adds the routes to an application."""
        for path, (name, kind) in _FILES.items():
            app.add_api_route(path, _file(name, kind), methods=["GET", "HEAD"])
        app.add_api_route("/page/card", self.card, methods=["GET"])
        app.add_api_route("/page/picture", self.picture, methods=["POST"])

    async def card(self) -> Response:
        """What is served, and the summary of its privacy card."""
        versions = self._service.versions
        return JSONResponse(card(versions.newest, versions.name))

    async def picture(self, request: Request) -> Response:
        """Everything that the page shows of a photo, which is the body."""
        rest, budget = self._rest, self._service.budget
        with Measured(self._service.metrics, "page"), budget.share() as share:
            model = self._service.versions.newest
            content = await read_body(request, self._service.limits, share)
            asked = self._ask(model, DEFAULT_SIGNATURE, IMAGE_BYTES, _one(content))
            found = attributes(model, await rest.answer(asked))
            # Pixels of a photo can be a thousand times its file: they neither wait for the model
            # nor go to it.
            with budget.share() as photo:
                photo.take(decoded_bytes(content))
                seen = await rest.in_reader(reduced, model, content)
            sent, outputs = framed(model, seen), {}
            for name in picture_signatures(model):
                outputs[name] = await rest.answer(self._ask(model, name, IMAGES, sent))
            shown = await rest.in_writer(pictures, seen, outputs)
        return JSONResponse({"attributes": found, "pictures": shown})

    def _ask(self, model: Model, signature: str, key: str, value: Array) -> Future[Outputs]:
        if set(model.inputs.get(signature, ())) != {key}:
            raise invalid(f"the model has no signature {signature} that takes {key}")
        return self._service.submit(model, signature, {key: value})


def _one(content: bytes) -> Array:
    """A batch of one file."""
    batch = np.empty(1, dtype=object)
    batch[0] = content
    return batch


def _file(name: str, kind: str) -> Callable[[], Any]:
    content = (_FOLDER / name).read_bytes()

    async def answer() -> Response:
        return Response(content, media_type=kind)

    return answer
