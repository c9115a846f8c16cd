"""Command `predict`: classifies image files, by a run's model or by asking a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.cli.options import DEFAULT_RUN_DIR, RERUN, CommonOptions, Parsed
from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import FAILURE, OK, UsageError
from tf_mtl_privacy.files import private_dir, write_atomic
from tf_mtl_privacy.tf_loading import load_tensorflow

if TYPE_CHECKING:
    from tf_mtl_privacy.reporting.predictions import PictureFile, PicturePrediction
    from tf_mtl_privacy.serving.client import Predictor
    from tf_mtl_privacy.serving.client.picture_files import Probabilities
    from tf_mtl_privacy.training.saved_run import SavedRun

BATCH_SIZE = 64
_FILES_PER_REQUEST = 32


@dataclasses.dataclass(frozen=True)
class PredictOptions(CommonOptions):
    """Options of `predict`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the trained run.")
    input: tuple[str, ...] = option(
        (),
        "An image file or a folder of them; may be repeated. --input itself may be left out.",
    )
    output: str = option(
        "", "Table to write, .csv or .json; empty means predictions.csv in the run folder."
    )
    restored_dir: str = option("", "Folder for the restored images; empty means none are written.")
    server: str = option(
        "",
        "Ask a server of an exported model instead of loading a run: http://HOST:PORT (REST) or "
        "grpc://HOST:PORT; https://NAME:PASSWORD@HOST behind a proxy with a password.",
    )
    model_name: str = option("faces", "With --server: the model's name.")
    deadline: float = option(
        60.0, "With --server: seconds for each request, including its retries.", above=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server:
            # Only here: no other command needs its imports.
            from tf_mtl_privacy.serving.client.predictor import check_server

            check_server(self.server, self.model_name)

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        return f"no table was written; {RERUN}"


def main(parsed: Parsed) -> int:
    """Predicts, writes the table (and restored images), and prints a summary.

    Returns:
        1 if not a single picture could be read, else 0.
    """
    from tf_mtl_privacy.reporting.formats import show
    from tf_mtl_privacy.reporting.predictions import find_pictures, summary, to_csv, to_json

    options: PredictOptions = parsed.options
    folder = Path() if options.server else Path(options.run_dir)
    output = Path(options.output or folder / "predictions.csv")
    if output.suffix not in (".csv", ".json"):
        raise UsageError(f"--output={output}: expected a name that ends in .csv or .json")
    files = find_pictures(options.input)
    if not output.parent.is_dir():
        private_dir(output.parent)
    predictions, task_classes = (_by_server if options.server else _by_run)(options, files)
    # A server does not tell the order of tasks; sorted by name, both ways give the same table.
    task_classes = dict(sorted(task_classes.items()))
    write = to_csv if output.suffix == ".csv" else to_json
    write_atomic(output, write(predictions, task_classes), private=True)
    show(summary(predictions, task_classes))
    show(f"Attributes: {output}")
    if options.restored_dir:
        show(f"Restored images: {options.restored_dir}")
    failed = all(prediction.error is not None for prediction in predictions)
    return FAILURE if failed else OK


# Predictions, and the classes of each task.
_Predicted = tuple[list["PicturePrediction"], Mapping[str, Sequence[str]]]


def _by_run(options: PredictOptions, files: Sequence[PictureFile]) -> _Predicted:
    load_tensorflow()
    from tf_mtl_privacy.training.saved_run import load_run

    run = load_run(options.run_dir)
    if options.restored_dir and run.bundle.restorer is None:
        raise UsageError(
            f"--restored_dir={options.restored_dir}: the run's model "
            f"({run.config.train.model}) has no restorer; leave the flag out"
        )
    return predict_files(run, files, options.restored_dir), run.task_classes


def predict_files(
    run: SavedRun, files: Sequence[PictureFile], restored_dir: str = ""
) -> list[PicturePrediction]:
    """Reads and classifies picture files in batches, in order.

    Args:
        run: a finished run.
        files: see `find_pictures`.
        restored_dir: folder for the restored images; empty means none are written.

    Raises:
        RunError: a restored image cannot be written.
    """
    from tf_mtl_privacy.progress import Progress
    from tf_mtl_privacy.reporting.predictions import restored_names, write_picture

    names = restored_names(files)
    folder = private_dir(restored_dir) if restored_dir else None
    predictions: list[PicturePrediction] = []
    with Progress(len(files), "predicting", "pictures") as progress:
        for start in range(0, len(files), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            predicted, restored = _predict_batch(run, files[batch], folder is not None)
            predictions += predicted
            for number, image in restored:
                assert folder is not None
                write_picture(folder / names[start + number], image)
            progress.update(len(predicted))
    return predictions


def _predict_batch(
    run: SavedRun, files: Sequence[PictureFile], restore: bool
) -> tuple[list[PicturePrediction], list[tuple[int, Any]]]:
    """Returns a batch's predictions, and (place in the batch, restored image) if requested."""
    from tf_mtl_privacy.reporting.predictions import PicturePrediction

    pictures = list(_read(run, files))
    good = [number for number, (image, _) in enumerate(pictures) if image is not None]
    predicted = [
        PicturePrediction(str(file.path), error=error)
        for file, (_, error) in zip(files, pictures, strict=True)
    ]
    if not good:
        return predicted, []
    probabilities, restored = _forward(run, [pictures[number][0] for number in good], restore)
    for place, number in enumerate(good):
        by_task = {
            task: dict(zip(classes, probabilities[task][place].tolist(), strict=True))
            for task, classes in run.task_classes.items()
        }
        predicted[number] = PicturePrediction(predicted[number].file, by_task)
    return predicted, [] if restored is None else list(zip(good, restored, strict=False))


def _forward(run: SavedRun, images: Sequence[Any], restore: bool) -> tuple[dict[str, Any], Any]:
    """Returns probabilities by task and restored images, followed by rows of padding."""
    import numpy as np

    from tf_mtl_privacy.training.inference import predict_images

    # A constant shape, so that the last batch needs no new compilation.
    padding = [np.zeros_like(images[0])] * (BATCH_SIZE - len(images))
    batch = np.stack([*images, *padding])
    probabilities: dict[str, Any] = {}
    restored = None
    for bundle in run.single_task.values() or [run.bundle]:
        predicted = predict_images(bundle, batch, restore=restore)
        probabilities.update(predicted.probabilities)
        restored = predicted.restored
    return probabilities, restored


def _read(run: SavedRun, files: Sequence[PictureFile]) -> Iterator[tuple[Any, str | None]]:
    """Yields (prepared picture, None), or (None, reason) for a picture that cannot be used."""
    from tf_mtl_privacy.data.headers import BadPicture
    from tf_mtl_privacy.data.preprocess import read_picture
    from tf_mtl_privacy.reporting.predictions import read_content

    data = run.config.data
    for file in files:
        try:
            yield read_picture(read_content(file), data.image_size, data.effective_crop), None
        except BadPicture as error:
            yield None, str(error)


def _by_server(options: PredictOptions, files: Sequence[PictureFile]) -> _Predicted:
    if options.restored_dir or options.server.startswith("grpc:"):
        # Restoring decodes pictures and gRPC uses TensorFlow's tensors; REST alone needs neither.
        load_tensorflow()
    return predict_by_server(options, files)


def predict_by_server(options: PredictOptions, files: Sequence[PictureFile]) -> _Predicted:
    """Asks a server for predictions of picture files, in order.

    Args:
        options: `server`, `model_name`, `deadline` and `restored_dir`.
        files: see `find_pictures`.

    Returns:
        The predictions, and the classes of each task.

    Raises:
        ClientError: the server does not answer.
        UsageError: the server has no such model.
        RunError: a restored image cannot be written.
    """
    from tf_mtl_privacy.progress import Progress
    from tf_mtl_privacy.reporting.predictions import (
        PicturePrediction,
        restored_names,
        write_picture,
    )
    from tf_mtl_privacy.serving.client import connect
    from tf_mtl_privacy.serving.client.picture_files import task_classes

    folder = private_dir(options.restored_dir) if options.restored_dir else None
    names = restored_names(files)
    answers: list[tuple[Probabilities, str | None]] = []
    with (
        connect(options.server, options.model_name, seconds=options.deadline) as predictor,
        Progress(len(files), "predicting", "pictures") as progress,
    ):
        for start in range(0, len(files), _FILES_PER_REQUEST):
            batch = files[start : start + _FILES_PER_REQUEST]
            contents, answered = _ask(predictor, batch)
            for number, (content, (_, error)) in enumerate(zip(contents, answered, strict=True)):
                if folder is not None and error is None:
                    restored, reason = _restored(predictor, content)
                    if restored is None:
                        answered[number] = ({}, reason)
                    else:
                        write_picture(folder / names[start + number], restored)
            answers += answered
            progress.update(len(batch))
    predictions = [
        PicturePrediction(str(file.path), probabilities, error)
        for file, (probabilities, error) in zip(files, answers, strict=True)
    ]
    return predictions, task_classes(answers)


def _ask(
    predictor: Predictor, files: Sequence[PictureFile]
) -> tuple[list[bytes], list[tuple[Probabilities, str | None]]]:
    """Returns the files' contents (empty if a file cannot be read), and the answer for each."""
    from tf_mtl_privacy.data.headers import BadPicture
    from tf_mtl_privacy.reporting.predictions import read_content
    from tf_mtl_privacy.serving.client import ClientError, NotFound, Unavailable
    from tf_mtl_privacy.serving.client.picture_files import classify_files

    contents, reasons = [], {}
    for number, file in enumerate(files):
        try:
            contents.append(read_content(file))
        except BadPicture as error:
            contents.append(b"")
            reasons[number] = str(error)
    try:
        answers = classify_files(predictor, contents)
    except NotFound as error:
        raise UsageError(f"--model_name={predictor.model_name}: {error}") from error
    except ClientError as error:
        if not isinstance(error, Unavailable) and not isinstance(error.__cause__, Unavailable):
            raise
        raise type(error)(
            f"{error}; check --server and that the server is running (python -m "
            "tf_mtl_privacy.serve --export_dir=FOLDER starts one)"
        ) from error
    return contents, [
        ({}, reasons[number]) if number in reasons else answer
        for number, answer in enumerate(answers)
    ]


def _restored(predictor: Predictor, content: bytes) -> tuple[Any, str]:
    """Returns the restored picture, or None and the reason."""
    from tf_mtl_privacy.serving.client import Refused
    from tf_mtl_privacy.serving.client.picture_files import restore_pixels

    try:
        return restore_pixels(predictor, _pixels(content)), ""
    except Refused as error:
        return None, f"not restored: {error}"


def _pixels(content: bytes) -> Any:
    """Decodes a picture as training does."""
    import tensorflow as tf

    from tf_mtl_privacy.data.headers import pnm_pixels, read_header
    from tf_mtl_privacy.data.preprocess import decode_content

    if read_header(content).format == "pnm":
        return pnm_pixels(content)
    return decode_content(tf.constant(content)).numpy()
