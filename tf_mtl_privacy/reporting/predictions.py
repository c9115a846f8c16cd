"""Predictions for picture files as CSV and JSON, and in a few words."""

from __future__ import annotations

import collections
import csv
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tf_mtl_privacy.reporting.formats import count


@dataclasses.dataclass(frozen=True)
class PicturePrediction:
    """What is said about one picture file.

    Attributes:
        file: its path.
        probabilities: task -> class name -> probability; empty where the picture failed.
        error: why it could not be read; None where it could.
    """

    file: str
    probabilities: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    error: str | None = None

    def likeliest(self, task: str) -> str:
        """The most probable class of `task`."""
        found = self.probabilities[task]
        return max(found, key=lambda name: found[name])


def to_csv(
    predictions: Sequence[PicturePrediction], task_classes: Mapping[str, Sequence[str]]
) -> str:
    """One line per picture: file, most probable class per task, every probability, error."""
    pairs = [(task, name) for task, classes in task_classes.items() for name in classes]
    header = ["file", *task_classes, *(f"{task}:{name}" for task, name in pairs), "error"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    for prediction in predictions:
        if prediction.error is not None:
            blanks = [""] * (len(header) - 2)
            writer.writerow([prediction.file, *blanks, prediction.error])
            continue
        likeliest = [prediction.likeliest(task) for task in task_classes]
        figures = [f"{prediction.probabilities[task][name]:.6f}" for task, name in pairs]
        writer.writerow([prediction.file, *likeliest, *figures, ""])
    return out.getvalue()


def to_json(
    predictions: Sequence[PicturePrediction], task_classes: Mapping[str, Sequence[str]]
) -> str:
    """A list with one object per picture: `file`, `attributes` (or null) and `error` (or null)."""
    rows: list[dict[str, Any]] = []
    for prediction in predictions:
        attributes = None
        if prediction.error is None:
            attributes = {
                task: {
                    "class": prediction.likeliest(task),
                    "probabilities": {
                        name: round(float(p), 6)
                        for name, p in prediction.probabilities[task].items()
                    },
                }
                for task in task_classes
            }
        rows.append({"file": prediction.file, "attributes": attributes, "error": prediction.error})
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"


def summary(
    predictions: Sequence[PicturePrediction], task_classes: Mapping[str, Sequence[str]]
) -> str:
    """How many pictures were read, the first that was not, and how often each class was found."""
    failed = [prediction for prediction in predictions if prediction.error is not None]
    read = [prediction for prediction in predictions if prediction.error is None]
    lines = [f"{count(len(read))} of {count(len(predictions))} pictures read"]
    if failed:
        lines[0] += f"; first that failed: {failed[0].file}: {failed[0].error}"
    for task, classes in task_classes.items() if read else ():
        found = collections.Counter(prediction.likeliest(task) for prediction in read)
        lines.append(f"  {task}: " + ", ".join(f"{count(found[name])} {name}" for name in classes))
    return "\n".join(lines)
