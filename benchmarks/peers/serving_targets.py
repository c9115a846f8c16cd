"""Targets of `benchmarks/serving.py`, one function each.

A target is a context manager that takes a `Served` and yields `ask(rows)`, which sends the pictures
of these rows, waits for the answer, and returns it as NumPy arrays by name. Add a new target to
`TARGETS`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from server_targets import grpc_classify, rest_default

from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data import synthetic_faces
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.export.exporting import export_run
from tf_mtl_privacy.export.signatures import prepare_files
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.serving_signature import CLASSIFY, DEFAULT_SIGNATURE, IMAGE_BYTES, IMAGES
from tf_mtl_privacy.training.inference import predict_images
from tf_mtl_privacy.training.saved_run import SavedRun, load_run

PICTURES, FILE_PIXELS = 64, 128
Rows = slice
Ask = Callable[[Rows], dict[str, Any]]


@dataclasses.dataclass(frozen=True)
class Served:
    """A run, its export, and pictures for requests.

    Attributes:
        run: the networks.
        folder: the exported version.
        images: `[64, S, S, 3]` uint8, with the model's size S.
        files: the same faces as JPEG files of 128x128 pixels.
    """

    run: SavedRun
    folder: Path
    images: np.ndarray
    files: list[bytes]


@contextlib.contextmanager
def served(run_dir: str) -> Iterator[Served]:
    """Exports a run to a temporary folder; an empty `run_dir` is an untrained run of demo.cfg."""
    run = (
        load_run(run_dir) if run_dir else untrained(parse("train", ["--flagfile=demo.cfg"]).config)
    )
    size, crop = run.config.data.image_size, run.config.data.effective_crop
    faces = synthetic_faces.render(0, "test", np.arange(PICTURES), size=FILE_PIXELS)
    files = [tf.io.encode_jpeg(face, quality=95).numpy() for face in faces.image]
    images = tf.function(prepare_files(size, crop))(tf.constant(files)).numpy()
    with tempfile.TemporaryDirectory() as folder:
        version = export_run(run, Path(folder) / "faces", {}, name="faces").folder
        yield Served(run, version, images, files)


def untrained(config: Config) -> SavedRun:
    """Returns networks with initial weights, which take as long as trained ones."""
    names = ("gender", "age", "expression")
    tasks = {name: tuple(synthetic_faces.ATTRIBUTES[name]) for name in names}
    private = tuple(synthetic_faces.ATTRIBUTES["iris"])
    counts = {name: len(classes) for name, classes in tasks.items()}
    bundle = build_bundle(config, counts, len(private))
    return SavedRun(Path("untrained"), config, tasks, private, bundle, {}, "", {})


@contextlib.contextmanager
def keras_compiled(served: Served) -> Iterator[Ask]:
    """The Keras networks in one `tf.function`, from uint8 to probabilities."""
    bundle = served.run.bundle

    @tf.function(reduce_retracing=True)
    def forward(images: tf.Tensor) -> dict[str, tf.Tensor]:
        features = bundle.encoder(to_float(images), training=False)
        logits = bundle.business(features, training=False)
        return {task: tf.nn.softmax(values) for task, values in logits.items()}

    yield lambda rows: as_arrays(forward(tf.constant(served.images[rows])))


@contextlib.contextmanager
def keras_called(served: Served) -> Iterator[Ask]:
    """The same networks called layer by layer, as `predict` does."""
    yield lambda rows: predict_images(served.run.bundle, served.images[rows]).probabilities


@contextlib.contextmanager
def savedmodel_classify(served: Served) -> Iterator[Ask]:
    """`classify` of the exported model in this process, with pixels."""
    call = tf.saved_model.load(str(served.folder)).signatures[CLASSIFY]
    yield lambda rows: as_arrays(call(**{IMAGES: tf.constant(served.images[rows])}))


@contextlib.contextmanager
def savedmodel_default(served: Served) -> Iterator[Ask]:
    """`serving_default` of the exported model in this process, with JPEG files."""
    call = tf.saved_model.load(str(served.folder)).signatures[DEFAULT_SIGNATURE]
    yield lambda rows: as_arrays(call(**{IMAGE_BYTES: tf.constant(served.files[rows])}))


@contextlib.contextmanager
def decoding(served: Served) -> Iterator[Ask]:
    """The preparation in `serving_default`: decoding, cropping, resizing."""
    data = served.run.config.data
    prepare = tf.function(
        prepare_files(data.image_size, data.effective_crop),
        input_signature=[tf.TensorSpec((None,), tf.string)],
    )
    yield lambda rows: {"images": prepare(tf.constant(served.files[rows])).numpy()}


def as_arrays(answer: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    """Converts an answer to NumPy arrays."""
    return {name: value.numpy() for name, value in answer.items()}


TARGETS: dict[str, Callable[[Served], contextlib.AbstractContextManager[Ask]]] = {
    "keras_compiled": keras_compiled,
    "keras_called": keras_called,
    "savedmodel_classify": savedmodel_classify,
    "savedmodel_default": savedmodel_default,
    "decoding": decoding,
    "grpc_classify": grpc_classify,
    "rest_default": rest_default,
}
