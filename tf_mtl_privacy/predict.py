"""Says what a trained run reads from pictures: `python -m tf_mtl_privacy.predict FOLDER`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy import cli
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import private_dir, write_atomic
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.reporting.formats import show
from tf_mtl_privacy.reporting.predictions import (
    PictureFile,
    PicturePrediction,
    find_pictures,
    read_content,
    restored_names,
    summary,
    to_csv,
    to_json,
    write_picture,
)
from tf_mtl_privacy.verbs import PredictOptions

if TYPE_CHECKING:
    from tf_mtl_privacy.training.saved_run import SavedRun

BATCH_SIZE = 64
# Predictions, and the classes of each task.
Found = tuple[list[PicturePrediction], Mapping[str, Sequence[str]]]


def main(parsed: Parsed) -> int:
    """Predicts, writes the table (and restored images), prints a summary.

    Returns:
        1 if not a single picture could be read, else 0.
    """
    options = parsed.options
    folder = Path() if options.server else Path(options.run_dir)
    output = Path(options.output or folder / "predictions.csv")
    if output.suffix not in (".csv", ".json"):
        raise UsageError(f"--output={output}: expected a name that ends in .csv or .json")
    files = find_pictures(options.input)
    if not output.parent.is_dir():
        private_dir(output.parent)
    predictions, task_classes = (_by_server if options.server else _by_run)(options, files)
    # A server's answers have no order of tasks: only by name is the table the same from both.
    task_classes = dict(sorted(task_classes.items()))
    write = to_csv if output.suffix == ".csv" else to_json
    write_atomic(output, write(predictions, task_classes), private=True)
    show(summary(predictions, task_classes))
    show(f"Attributes: {output}")
    if options.restored_dir:
        show(f"Restored images: {options.restored_dir}")
    failed = all(prediction.error is not None for prediction in predictions)
    return cli.FAILURE if failed else cli.OK


def _by_run(options: PredictOptions, files: Sequence[PictureFile]) -> Found:
    # Loaded here: wrong flags must be told before.
    cli.load_tensorflow()
    from tf_mtl_privacy.training.saved_run import load_run

    run = load_run(options.run_dir)
    if options.restored_dir and run.bundle.restorer is None:
        raise UsageError(
            f"--restored_dir={options.restored_dir}: the run's model "
            f"({run.config.train.model}) has no restorer; leave the flag out"
        )
    return predict_files(run, files, options.restored_dir), run.task_classes


def _by_server(options: PredictOptions, files: Sequence[PictureFile]) -> Found:
    from tf_mtl_privacy.predict_by_server import ask_server

    if options.restored_dir or options.server.startswith("grpc:"):
        # Decodes pictures, and carries the stubs' tensors; REST alone does without.
        cli.load_tensorflow()
    return ask_server(options, files)


def predict_files(
    run: SavedRun, files: Sequence[PictureFile], restored_dir: str = ""
) -> list[PicturePrediction]:
    """Reads and classifies picture files, a batch at a time, in order.

    Args:
        run: a finished run.
        files: see `find_pictures`.
        restored_dir: folder for the restored images; empty means none are written.

    Raises:
        RunError: a restored image cannot be written.
    """
    names = restored_names(files)
    folder = private_dir(restored_dir) if restored_dir else None
    predictions: list[PicturePrediction] = []
    with Progress(len(files), "predicting", "pictures") as progress:
        for start in range(0, len(files), BATCH_SIZE):
            batch = slice(start, start + BATCH_SIZE)
            found, restored = _predict_batch(run, files[batch], folder is not None)
            predictions += found
            for number, image in restored:
                assert folder is not None
                write_picture(folder / names[start + number], image)
            progress.update(len(found))
    return predictions


def _predict_batch(
    run: SavedRun, files: Sequence[PictureFile], restore: bool
) -> tuple[list[PicturePrediction], list[tuple[int, Any]]]:
    """Predictions of a batch, and (place in the batch, restored image) where asked for."""
    read = list(_read(run, files))
    good = [number for number, (image, _) in enumerate(read) if image is not None]
    found = [
        PicturePrediction(str(file.path), error=error)
        for file, (_, error) in zip(files, read, strict=True)
    ]
    if not good:
        return found, []
    probabilities, restored = _forward(run, [read[number][0] for number in good], restore)
    for place, number in enumerate(good):
        by_task = {
            task: dict(zip(classes, probabilities[task][place].tolist(), strict=True))
            for task, classes in run.task_classes.items()
        }
        found[number] = PicturePrediction(found[number].file, by_task)
    pictures = [] if restored is None else list(zip(good, restored, strict=False))
    return found, pictures


def _forward(run: SavedRun, images: Sequence[Any], restore: bool) -> tuple[dict[str, Any], Any]:
    """Probabilities by task and restored images, with a few rows of padding at the end."""
    import numpy as np

    from tf_mtl_privacy.training.inference import predict_images

    # Always the same shape, so that nothing is compiled anew for the last batch.
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
    """Prepared picture and None, or None and why it cannot be had."""
    from tf_mtl_privacy.data.headers import BadPicture
    from tf_mtl_privacy.data.preprocess import read_picture

    data = run.config.data
    for file in files:
        try:
            yield read_picture(read_content(file), data.image_size, data.effective_crop), None
        except BadPicture as error:
            yield None, str(error)


if __name__ == "__main__":
    cli.run("predict", main)
