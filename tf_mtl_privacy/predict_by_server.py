"""What `predict` does where a server is asked and not a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tf_mtl_privacy.data.headers import BadPicture, pnm_pixels, read_header
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import private_dir
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.reporting.predictions import (
    PictureFile,
    PicturePrediction,
    read_content,
    restored_names,
    write_picture,
)
from tf_mtl_privacy.serving.client import NotFound, Predictor, Refused, connect
from tf_mtl_privacy.serving.client.picture_files import (
    Probabilities,
    classify_files,
    restore_pixels,
    task_classes,
)
from tf_mtl_privacy.verbs import PredictOptions

_FILES_AT_ONCE = 32
Found = tuple[list[PicturePrediction], Mapping[str, Sequence[str]]]


def ask_server(options: PredictOptions, files: Sequence[PictureFile]) -> Found:
    """Predictions of a server for picture files, in order, and the classes of each task.

    Args:
        options: `server`, `model_name`, `deadline` and `restored_dir`.
        files: see `find_pictures`.

    Raises:
        ClientError: the server does not answer.
        UsageError: the server has no such model.
        RunError: a restored image cannot be written.
    """
    folder = private_dir(options.restored_dir) if options.restored_dir else None
    names = restored_names(files)
    found: list[tuple[Probabilities, str | None]] = []
    with (
        connect(options.server, options.model_name, seconds=options.deadline) as predictor,
        Progress(len(files), "predicting", "pictures") as progress,
    ):
        for start in range(0, len(files), _FILES_AT_ONCE):
            some = files[start : start + _FILES_AT_ONCE]
            contents, answers = _answers(predictor, some)
            for number, (content, (_, error)) in enumerate(zip(contents, answers, strict=True)):
                if folder is not None and error is None:
                    restored, why = _restored(predictor, content)
                    if restored is None:
                        answers[number] = ({}, why)
                    else:
                        write_picture(Path(folder) / names[start + number], restored)
            found += answers
            progress.update(len(some))
    predictions = [
        PicturePrediction(str(file.path), probabilities, error)
        for file, (probabilities, error) in zip(files, found, strict=True)
    ]
    return predictions, task_classes(found)


def _answers(
    predictor: Predictor, files: Sequence[PictureFile]
) -> tuple[list[bytes], list[tuple[Probabilities, str | None]]]:
    """Contents (empty where a file cannot be read), and what is said of each."""
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
    return contents, [
        ({}, reasons[number]) if number in reasons else answer
        for number, answer in enumerate(answers)
    ]


def _restored(predictor: Predictor, content: bytes) -> tuple[Any, str]:
    """The restored picture, or None and why it cannot be had."""
    try:
        return restore_pixels(predictor, _pixels(content)), ""
    except Refused as error:
        return None, f"not restored: {error}"


def _pixels(content: bytes) -> Any:
    """The picture, decoded as training decodes it."""
    import tensorflow as tf

    from tf_mtl_privacy.data.preprocess import decode_content

    if read_header(content).format == "pnm":
        return pnm_pixels(content)
    return decode_content(tf.constant(content)).numpy()
