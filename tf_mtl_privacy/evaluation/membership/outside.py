"""What an exported SavedModel gives away about rows, asked only through its signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_mtl_privacy.contract import (
    CLASSIFY,
    ENCODE,
    EXTRA_FOLDER,
    LABELS_FILE,
    MAP,
    REGIONS,
    RESTORE,
    RESTORED,
    probabilities_key,
)
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.membership.outputs import Forward, summary
from tf_mtl_privacy.files import newest_version, read_json

_LEAST = 1e-30


def version_folder(path: str) -> Path:
    """The SavedModel at `path`, or the highest version in it.

    Raises:
        UsageError: there is none.
    """
    folder = newest_version(path, "saved_model.pb")
    if folder is None:
        raise UsageError(
            f"--saved_model={path}: no saved_model.pb in it or in its numbered folders; name "
            "what export wrote"
        )
    return folder


class ExportedModel:
    """A SavedModel as its clients see it.

    Attributes:
        folder: of the version.
        task_classes: task -> class names, from `assets.extra/labels.json`.
        image_size: height and width that its encoder takes, from the same file.
        missing: signatures that it does not have.

    Raises:
        UsageError: it has no signature `classify`, does not say its classes and size, or crops the
            pictures that it is sent: a data set's pictures are cropped already.
        RunError: it cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        self.folder = version_folder(path)
        try:
            # Kept: its variables live as long as it does.
            self._model = tf.saved_model.load(str(self.folder))
        except (OSError, ValueError, tf.errors.OpError) as error:
            first = str(error).split("\n", 1)[0]
            raise RunError(f"cannot load the SavedModel {self.folder}: {first}") from error
        self._signatures = dict(self._model.signatures)
        if CLASSIFY not in self._signatures:
            raise UsageError(f"--saved_model={path}: has no signature {CLASSIFY!r}")
        self.missing = [n for n in (ENCODE, RESTORE, REGIONS) if n not in self._signatures]
        labels = read_json(self.folder / EXTRA_FOLDER / LABELS_FILE)
        try:
            self.task_classes = {part["task"]: tuple(part["classes"]) for part in labels["tasks"]}
            self.image_size = int(labels["image_size"])
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(
                f"--saved_model={path}: its labels.json does not name tasks and image_size"
            ) from error
        if labels.get("crop") == "inner":
            raise UsageError(
                f"--saved_model={path}: the model keeps the inner part of whatever it is sent, "
                "which would cut training pictures a second time; audit its run by --run_dir"
            )

    def forward(self) -> Forward:
        """As `outputs.of_bundles`, but with log-probabilities for logits.

        A discriminator is not exported. Restored pictures are rounded to whole numbers on their way
        back into `encode`, which takes nothing else.
        """

        def run(images: Any, private: Any) -> dict[str, Any]:
            said = self._signatures[CLASSIFY](images=images)
            logits = {
                task: tf.math.log(tf.maximum(said[probabilities_key(task)], _LEAST))
                for task in self.task_classes
            }
            empty = tf.zeros([tf.shape(images)[0], 0])
            found: dict[str, Any] = {"features": empty, "regions": empty, "further": {}}
            if ENCODE not in self.missing:
                found["features"] = self._features(images)[0]
            if RESTORE not in self.missing:
                found["further"] = self._further(images)
            if REGIONS not in self.missing:
                found["regions"] = summary(self._signatures[REGIONS](images=images)[MAP][..., None])
            return {"logits": logits, **found}

        return run

    def _features(self, images: Any) -> tuple[Any, list[Any]]:
        """Their summary, and the features of each encoder."""
        said = self._signatures[ENCODE](images=images)
        whole = [said[name] for name in sorted(said)]
        return tf.concat([summary(values) for values in whole], axis=1), whole

    def _further(self, images: Any) -> dict[str, Any]:
        restored = self._signatures[RESTORE](images=images)[RESTORED]
        original = tf.cast(images, tf.float32) / 255
        found = {"restoration_error": -tf.reduce_mean((restored - original) ** 2, axis=(1, 2, 3))}
        if ENCODE not in self.missing:
            again = tf.cast(tf.round(255 * tf.clip_by_value(restored, 0, 1)), tf.uint8)
            pairs = zip(self._features(images)[1], self._features(again)[1], strict=True)
            distances = [tf.reduce_mean((a - b) ** 2, axis=(1, 2, 3)) for a, b in pairs]
            found["reencoding_distance"] = -tf.add_n(distances)
        return found
