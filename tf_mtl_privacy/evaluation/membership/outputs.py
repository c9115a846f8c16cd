"""Members, non-members, and the outputs of a release on them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.labels import Labels
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.data.sources.synthetic import fresh_faces
from tf_mtl_privacy.errors import RunError, UsageError
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
from tf_mtl_privacy.types import Array

# Random stream of drawn non-members; nothing else draws from it.
STREAM = "membership"
MIN_CANDIDATES = 20


class Candidates(NamedTuple):
    """Rows of one side, members or non-members.

    Attributes:
        read: `[n]` int64 row numbers -> `[n, S, S, 3]` uint8 pictures.
        numbers: `[N]` int64 row numbers.
        labels: of these rows, in the same order.
    """

    read: Callable[[Array], Array]
    numbers: Array
    labels: Labels

    def part(self, places: Array) -> Candidates:
        """Returns the rows at these places (`[n]` int64)."""
        business = {task: values[places] for task, values in self.labels.business.items()}
        return Candidates(
            self.read, self.numbers[places], Labels(business, self.labels.private[places])
        )


def joined(first: Candidates, second: Candidates) -> Candidates:
    """Returns the rows of both sides, the first ones first, numbered by place."""
    sides, count = (first, second), len(first.numbers)
    business = {
        task: np.concatenate([side.labels.business[task] for side in sides])
        for task in first.labels.business
    }
    private = np.concatenate([side.labels.private for side in sides])
    images = np.concatenate([side.read(side.numbers) for side in sides])
    return Candidates(
        lambda places: images[places],
        np.arange(count + len(second.numbers), dtype=np.int64),
        Labels(business, private),
    )


def members(dataset: Dataset, count: int, seed: int) -> Candidates:
    """Draws members: training rows, at most `count`, in random order.

    Args:
        dataset: the run's own data, with the training rows that were used.
        count: largest number.
        seed: of the choice.

    Raises:
        UsageError: there are fewer than 20.
    """
    return _some(dataset, "train", count, seed)


def non_members(dataset: Dataset, data: DataConfig, count: int, seed: int) -> Candidates:
    """Draws non-members: rows that neither training, validation nor attackers used.

    For synthetic faces they come from a stream of their own, for other data from the test rows.

    Args:
        dataset: the run's own data.
        data: the options that it was opened with.
        count: largest number.
        seed: of the choice among test rows.

    Raises:
        UsageError: there are fewer than 20.
    """
    if data.dataset == "synthetic_faces":
        read, labels = fresh_faces(data, STREAM, count)
        return Candidates(read, np.arange(count, dtype=np.int64), labels)
    return _some(dataset, "test", count, seed)


def _some(dataset: Dataset, split: str, count: int, seed: int) -> Candidates:
    rows = np.random.default_rng(seed).permutation(dataset.rows[split])[:count]
    if len(rows) < MIN_CANDIDATES:
        raise UsageError(
            f"--dataset={dataset.name}: {len(rows)} {split} rows; membership inference needs at "
            f"least {MIN_CANDIDATES} members (train) and as many non-members (test)"
        )
    return Candidates(dataset.store.images, rows, dataset.labels_of(rows))


# (images [B, S, S, 3] uint8, private labels [B] int32) -> name -> [B, ..] tensors, see
# `ReleasedOutputs`.
Forward = Callable[[Any, Any], dict[str, Any]]
BATCH, _CELLS, _THUMBNAIL = 256, 4, 16


class ReleasedOutputs(NamedTuple):
    """Outputs of a release on N rows, in the order of the candidates.

    Attributes:
        logits: task -> `[N, K]` float32; log-probabilities where only these are released.
        labels: task -> `[N]` int32, -1 where unknown.
        features: `[N, d]` float32, means of each channel over at most 4x4 parts of the grid.
        further: name -> `[N]` float32, each a membership score of its own (larger means member).
        regions: `[N, r]` float32, the mask on a coarse grid; r is 0 without a mask.
        pictures: `[N, p]` float32, a thumbnail and statistics of the picture, for the check that
            members and non-members are drawn alike. No attack reads them.
    """

    logits: dict[str, Array]
    labels: dict[str, Array]
    features: Array
    further: dict[str, Array]
    regions: Array
    pictures: Array


def read_outputs(
    forward: Forward, candidates: Candidates, done: Callable[[], None] = lambda: None
) -> ReleasedOutputs:
    """Runs a release on rows, a batch at a time.

    Args:
        forward: see `of_bundles`.
        candidates: the rows, N > 0.
        done: called after each batch of `BATCH` rows.
    """
    parts: list[dict[str, Any]] = []
    for start in range(0, len(candidates.numbers), BATCH):
        rows = slice(start, start + BATCH)
        images = candidates.read(candidates.numbers[rows])
        result = forward(tf.convert_to_tensor(images), candidates.labels.private[rows])
        result |= {"pictures": _pictures(tf.convert_to_tensor(images))}
        parts.append(tf.nest.map_structure(np.asarray, result))
        done()
    merged = tf.nest.map_structure(lambda *values: np.concatenate(values), *parts)
    return ReleasedOutputs(labels=candidates.labels.business, **merged)


def both(first: ReleasedOutputs, second: ReleasedOutputs) -> ReleasedOutputs:
    """Returns the outputs on both sides, the first ones first."""
    joined = tf.nest.map_structure(
        lambda a, b: np.concatenate([a, b]), first._asdict(), second._asdict()
    )
    return ReleasedOutputs(**joined)


def of_bundles(bundles: Mapping[str, Bundle]) -> Forward:
    """Builds the forward pass of a run's networks, in inference mode.

    A noisy encoder is averaged over as many draws as a client may request (`most_draws`). `further`
    has the negative restoration error, the negative distance between the features of a picture and
    of its restoration, and the discriminator's log-probability of the private label (NaN where
    unknown).

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
    scores = {}
    if bundle.restorer is not None:
        restored = bundle.restorer(seen, training=False)
        scores["restoration_error"] = -squared_error(restored, to_float(images))
        again = bundle.encoder(restored, training=False)
        scores["reencoding_distance"] = -tf.reduce_mean((again - seen) ** 2, axis=(1, 2, 3))
    if bundle.discriminator is not None:
        said = bundle.discriminator(seen, training=False)
        within = tf.where(private < said.shape[-1], private, -1)
        scores["discriminator_loss"] = tf.where(
            within < 0, float("nan"), -cross_entropy(said, within)
        )
    return scores


def summary(grid: Any) -> Any:
    """Averages `[B, h, w, c]` over at most 4x4 equal parts of the grid: `[B, d]`."""
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
    """Returns a thumbnail, and each channel's deviation and mean step between neighbours."""
    values = to_float(images)
    small = tf.image.resize(values, [_THUMBNAIL, _THUMBNAIL], "area")
    steps = [
        tf.reduce_mean(tf.abs(values[:, 1:] - values[:, :-1]), axis=(1, 2)),
        tf.reduce_mean(tf.abs(values[:, :, 1:] - values[:, :, :-1]), axis=(1, 2)),
        tf.math.reduce_std(values, axis=(1, 2)),
    ]
    return tf.concat([tf.reshape(small, [tf.shape(values)[0], -1]), *steps], axis=1)


_MIN_PROBABILITY = 1e-30


def version_folder(path: str) -> Path:
    """Returns the SavedModel at `path`, or the highest version in it.

    Raises:
        UsageError: there is none.
    """
    folder = newest_version(path, "saved_model.pb")
    if folder is None:
        raise UsageError(
            f"--saved_model={path}: no saved_model.pb in it or in its numbered folders; give "
            "the folder that export wrote"
        )
    return folder


class ExportedModel:
    """An exported SavedModel, used through its signatures only.

    Attributes:
        folder: the folder of the version.
        task_classes: task -> class names, from `assets.extra/labels.json`.
        image_size: height and width that its encoder takes, from the same file.
        missing: the signatures that it lacks.

    Raises:
        UsageError: it has no signature `classify`, does not name its classes and size, or crops its
            input: the data set's pictures are cropped already.
        RunError: it cannot be loaded.
    """

    def __init__(self, path: str) -> None:
        self.folder = version_folder(path)
        try:
            # The model owns the variables of its signatures.
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
                f"--saved_model={path}: the model crops its input, which would crop training "
                "pictures a second time; audit its run with --run_dir"
            )

    def forward(self) -> Forward:
        """Builds the forward pass as `of_bundles`, with log-probabilities for logits.

        There is no discriminator. Restored pictures are rounded to uint8, which `encode` takes.
        """

        def run(images: Any, private: Any) -> dict[str, Any]:
            said = self._signatures[CLASSIFY](images=images)
            logits = {
                task: tf.math.log(tf.maximum(said[probabilities_key(task)], _MIN_PROBABILITY))
                for task in self.task_classes
            }
            empty = tf.zeros([tf.shape(images)[0], 0])
            result: dict[str, Any] = {"features": empty, "regions": empty, "further": {}}
            if ENCODE not in self.missing:
                result["features"] = self._features(images)[0]
            if RESTORE not in self.missing:
                result["further"] = self._further(images)
            if REGIONS not in self.missing:
                result["regions"] = summary(
                    self._signatures[REGIONS](images=images)[MAP][..., None]
                )
            return {"logits": logits, **result}

        return run

    def _features(self, images: Any) -> tuple[Any, list[Any]]:
        """Returns their summary, and the features of each encoder."""
        said = self._signatures[ENCODE](images=images)
        whole = [said[name] for name in sorted(said)]
        return tf.concat([summary(values) for values in whole], axis=1), whole

    def _further(self, images: Any) -> dict[str, Any]:
        restored = self._signatures[RESTORE](images=images)[RESTORED]
        original = tf.cast(images, tf.float32) / 255
        scores = {"restoration_error": -tf.reduce_mean((restored - original) ** 2, axis=(1, 2, 3))}
        if ENCODE not in self.missing:
            again = tf.cast(tf.round(255 * tf.clip_by_value(restored, 0, 1)), tf.uint8)
            pairs = zip(self._features(images)[1], self._features(again)[1], strict=True)
            distances = [tf.reduce_mean((a - b) ** 2, axis=(1, 2, 3)) for a, b in pairs]
            scores["reencoding_distance"] = -tf.add_n(distances)
        return scores
