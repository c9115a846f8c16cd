"""What a release gives away about rows: the arrays that membership attacks read.

What an exported SavedModel gives away about rows, asked only through its signatures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.membership.rows import Candidates
from tf_mtl_privacy.evaluation.probes.targets import most_draws
from tf_mtl_privacy.files import newest_version, read_json
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.losses import cross_entropy, squared_error
from tf_mtl_privacy.removal.mask import is_masked, mask_map
from tf_mtl_privacy.serving_signature import (
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

Array = np.ndarray[Any, Any]
# (images [B, S, S, 3] uint8, private labels [B] int32) -> name -> [B, ..] tensors, see `Outputs`.
Forward = Callable[[Any, Any], dict[str, Any]]
BATCH, _CELLS, _THUMBNAIL = 256, 4, 16


class Outputs(NamedTuple):
    """What an attacker gets of N rows, in the order of the candidates.

    Attributes:
        logits: task -> `[N, K]` float32; log-probabilities where only these are released.
        labels: task -> `[N]` int32, -1 where unknown.
        features: `[N, d]` float32: means over at most 4x4 parts of the grid, for each channel.
        further: name -> `[N]` float32, each a membership score of its own (larger means member).
        regions: `[N, r]` float32, what is marked as sensitive on a coarse grid; r is 0 without.
        pictures: `[N, p]` float32: a thumbnail and a few figures of the picture itself, for the
            check that members and non-members are drawn alike. No attack reads them.
    """

    logits: dict[str, Array]
    labels: dict[str, Array]
    features: Array
    further: dict[str, Array]
    regions: Array
    pictures: Array


def read_outputs(
    forward: Forward, candidates: Candidates, done: Callable[[], None] = lambda: None
) -> Outputs:
    """Runs a release over rows, a batch at a time.

    Args:
        forward: see `of_bundles`.
        candidates: the rows, N > 0.
        done: called after each batch of `BATCH` rows.
    """
    parts: list[dict[str, Any]] = []
    for start in range(0, len(candidates.numbers), BATCH):
        rows = slice(start, start + BATCH)
        images = candidates.read(candidates.numbers[rows])
        found = forward(tf.convert_to_tensor(images), candidates.labels.private[rows])
        found |= {"pictures": _pictures(tf.convert_to_tensor(images))}
        parts.append(tf.nest.map_structure(np.asarray, found))
        done()
    merged = tf.nest.map_structure(lambda *values: np.concatenate(values), *parts)
    return Outputs(labels=candidates.labels.business, **merged)


def both(first: Outputs, second: Outputs) -> Outputs:
    """The rows of one after those of the other."""
    joined = tf.nest.map_structure(
        lambda a, b: np.concatenate([a, b]), first._asdict(), second._asdict()
    )
    return Outputs(**joined)


def of_bundles(bundles: Mapping[str, Bundle]) -> Forward:
    """The forward pass of a run's networks, in inference mode, with all that is released.

    A noisy encoder is read as often as a client may ask (`most_draws`). `further` has the negative
    restoration error, the negative distance of features to those of the restored image, and the
    discriminator's log-probability of the private label (NaN where unknown).

    Args:
        bundles: the run's networks; one under an empty name, or one for each single task.
    """
    views = {name: most_draws(bundle.encoder)[1] for name, bundle in bundles.items()}
    first = next(iter(bundles.values())).encoder
    finder = mask_map(first) if is_masked(first) else None

    @tf.function(autograph=False, reduce_retracing=True)
    def forward(images: Any, private: Any) -> dict[str, Any]:
        logits: dict[str, Any] = {}
        further: dict[str, Any] = {}
        features = []
        for name, bundle in bundles.items():
            seen = views[name](images)
            logits |= bundle.business(seen, training=False)
            features.append(summary(seen))
            further |= _further(bundle, images, seen, private)
        marked = tf.zeros([tf.shape(images)[0], 0])
        if finder is not None:
            marked = summary(finder(to_float(images), training=False))
        return {
            "logits": logits,
            "features": tf.concat(features, axis=1),
            "further": further,
            "regions": marked,
        }

    return forward


def _further(bundle: Bundle, images: Any, seen: Any, private: Any) -> dict[str, Any]:
    found = {}
    if bundle.restorer is not None:
        restored = bundle.restorer(seen, training=False)
        found["restoration_error"] = -squared_error(restored, to_float(images))
        again = bundle.encoder(restored, training=False)
        found["reencoding_distance"] = -tf.reduce_mean((again - seen) ** 2, axis=(1, 2, 3))
    if bundle.discriminator is not None:
        said = bundle.discriminator(seen, training=False)
        within = tf.where(private < said.shape[-1], private, -1)
        found["discriminator_loss"] = tf.where(
            within < 0, float("nan"), -cross_entropy(said, within)
        )
    return found


def summary(grid: Any) -> Any:
    """`[B, h, w, c]` -> `[B, d]`: means over at most 4x4 equal parts of the grid."""
    height, width = grid.shape[1:3]
    pooled = tf.nn.avg_pool2d(
        grid,
        [max(height // _CELLS, 1), max(width // _CELLS, 1)],
        [max(height // _CELLS, 1), max(width // _CELLS, 1)],
        "VALID",
    )
    return tf.reshape(pooled, [tf.shape(grid)[0], -1])


@tf.function(autograph=False, reduce_retracing=True)
def _pictures(images: Any) -> Any:
    """A thumbnail, and per channel the deviation and the mean step between neighbours."""
    values = to_float(images)
    small = tf.image.resize(values, [_THUMBNAIL, _THUMBNAIL], "area")
    steps = [
        tf.reduce_mean(tf.abs(values[:, 1:] - values[:, :-1]), axis=(1, 2)),
        tf.reduce_mean(tf.abs(values[:, :, 1:] - values[:, :, :-1]), axis=(1, 2)),
        tf.math.reduce_std(values, axis=(1, 2)),
    ]
    return tf.concat([tf.reshape(small, [tf.shape(values)[0], -1]), *steps], axis=1)


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
