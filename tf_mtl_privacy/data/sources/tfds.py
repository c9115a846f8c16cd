"""A tensorflow-datasets data set that is prepared on disk; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.headers import PREPROCESS_VERSION, BadPicture
from tf_mtl_privacy.data.preprocess import read_picture
from tf_mtl_privacy.data.sources.base import SPLITS, LabelTable, Pictures, fingerprint
from tf_mtl_privacy.data.splitting import (
    HOLDOUT_NOTE,
    SPLIT_VERSION,
    random_split,
    split_names,
    with_validation,
)
from tf_mtl_privacy.errors import UsageError

# A feature with more distinct whole numbers than this is not used as a label.
_MAX_NUMBERS = 256


class TfdsSource:
    """Rows of the splits train, validation and test, in their order on disk.

    The picture is the first image feature. Attributes are all class labels, booleans and whole
    numbers, including those of nested features (`attributes/Male` is `Male`). The classes of whole
    numbers are their distinct values; a feature with too many of them (such as a row number) is
    left out with a warning. Other splits are left out. With train only, rows are split 80/10/10 by
    their names and the data seed; without validation only, a part of train is held out likewise.

    Raises:
        UsageError: no such data set in the folder, or it has no image feature.
    """

    has_regions = False

    def __init__(self, config: DataConfig) -> None:
        self.name, self.size, self._crop = config.dataset, config.image_size, config.effective_crop
        self._seed = config.data_seed
        self._builder = _open(config)
        features = self._builder.info.features
        images = [k for k, v in features.items() if isinstance(v, tfds.features.Image)]
        if not images:
            raise UsageError(f"--dataset={self.name}: it has no image feature")
        self._image = images[0]
        self._attributes = dict(_find_attributes(features))
        asked = {*config.task_attributes.values(), *config.private_attributes}
        self._asked = asked & set(self._attributes)
        there = self._builder.info.splits
        self._splits = {
            name: there[name].num_examples
            for name in SPLITS[:3]
            if name in there and there[name].num_examples
        }
        if not self._splits:
            raise UsageError(
                f"--dataset={self.name}: it has the splits {', '.join(there)}, expected train, "
                "validation or test"
            )
        self._starts = np.cumsum([0, *self._splits.values()])

    def fingerprint(self) -> str:
        """See `DataSource.fingerprint`; version and shard sizes represent the files."""
        info = self._builder.info
        shards = [
            (name, info.splits[name].num_bytes, list(info.splits[name].shard_lengths))
            for name in self._splits
        ]
        version: tuple[object, ...] = (PREPROCESS_VERSION, SPLIT_VERSION)
        # Keeps older stores and runs valid that do not use whole-number attributes.
        if any(self._is_number(self._attributes[name]) for name in self._asked):
            version += ("whole numbers",)
        return fingerprint(info.full_name, self.size, self._crop, version, shards, self._seed)

    def load(self) -> LabelTable:
        """See `DataSource.load`."""
        paths = list(self._attributes.values())
        wanted = _nested(paths)
        values: dict[tuple[str, ...], list[int]] = {path: [] for path in paths}
        for name in self._splits if paths else ():
            for example in self._examples(name, None, tfds.decode.PartialDecoding(wanted)):
                for path in paths:
                    values[path].append(int(_follow(example, path)))
        split = np.concatenate(
            [np.full(n, SPLITS.index(name), np.int8) for name, n in self._splits.items()]
        )
        keys = np.array([f"{name}/{i}" for name, n in self._splits.items() for i in range(n)])
        notes: tuple[str, ...] = ()
        if list(self._splits) == ["train"]:
            split = random_split(split_names(keys), self._seed)
        elif (held_out := with_validation(split, split_names(keys), self._seed)) is not None:
            split, notes = held_out, (HOLDOUT_NOTE,)
        ignored = sorted(set(self._builder.info.splits) - set(self._splits))
        warnings = [f"splits left out: {', '.join(ignored)}"] if ignored else []
        attributes: dict[str, np.ndarray] = {}
        classes: dict[str, tuple[str, ...]] = {}
        for name, path in self._attributes.items():
            found = np.array(values[path], np.int64)
            if not self._is_number(path):
                attributes[name] = found.astype(np.int32)
                classes[name] = _class_names(name, _follow(self._builder.info.features, path))
                continue
            different, codes = np.unique(found, return_inverse=True)
            if len(different) > _MAX_NUMBERS:
                count = len(different)
                warnings.append(
                    f"{name} left out: too many distinct whole numbers for a label ({count})"
                )
                continue
            attributes[name] = codes.astype(np.int32)
            classes[name] = tuple(str(number) for number in different)
        return LabelTable(
            keys=keys,
            split=split,
            attributes=attributes,
            attribute_classes=classes,
            notes=notes,
            warnings=tuple(warnings),
        )

    def read(self, rows: np.ndarray) -> Pictures:
        """See `DataSource.read`."""
        images, reasons = np.zeros((len(rows), self.size, self.size, 3), np.uint8), [""] * len(rows)
        decoders = {self._image: tfds.decode.SkipDecoding()}
        for number, name in enumerate(self._splits):
            start, stop = self._starts[number : number + 2]
            here = np.flatnonzero((rows >= start) & (rows < stop))
            if not len(here):
                continue
            first, last = int(rows[here].min() - start), int(rows[here].max() - start)
            place = {int(rows[k] - start): k for k in here}
            for offset, example in enumerate(self._examples(name, (first, last + 1), decoders)):
                k = place.get(first + offset)
                if k is None:
                    continue
                try:
                    images[k] = read_picture(bytes(example[self._image]), self.size, self._crop)
                except BadPicture as error:
                    reasons[k] = str(error)
        return Pictures(images, reasons)

    def _is_number(self, path: tuple[str, ...]) -> bool:
        feature = _follow(self._builder.info.features, path)
        return not isinstance(feature, tfds.features.ClassLabel) and _is_whole(feature)

    def _examples(self, name: str, part: tuple[int, int] | None, decoders: Any) -> Iterator[Any]:
        chosen: Any = name
        if part is not None:
            chosen = tfds.core.ReadInstruction(name, from_=part[0], to=part[1], unit="abs")
        # Shards in order, so that row numbers mean the same in every call.
        order = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
        dataset = self._builder.as_dataset(
            split=chosen, shuffle_files=False, decoders=decoders, read_config=order
        )
        return iter(tfds.as_numpy(dataset))


def _open(config: DataConfig) -> Any:
    name, folder = config.dataset.removeprefix("tfds:"), Path(config.data_dir).expanduser()
    asked = f"--dataset={config.dataset} --data_dir={config.data_dir}"
    if not folder.is_dir():
        raise UsageError(f"{asked}: no such folder")
    try:
        # Reads only the files; tfds.builder would need the data set's code and the network.
        return tfds.core.read_only_builder.builder_from_files(name, data_dir=str(folder))
    except (tfds.core.DatasetNotFoundError, ValueError, FileNotFoundError) as error:
        there = sorted({path.parents[1].name for path in folder.glob("*/*/dataset_info.json")})
        raise UsageError(
            f"{asked}: no prepared data set {name!r} there; found: {', '.join(there) or 'none'}. "
            "Nothing is downloaded: prepare it with tensorflow-datasets first"
        ) from error


def _find_attributes(features: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, tuple]]:
    for key, feature in features.items():
        here = (*path, key)
        if isinstance(feature, tfds.features.FeaturesDict):
            yield from _find_attributes(feature, here)
        elif isinstance(feature, tfds.features.ClassLabel) or _is_label(feature):
            yield key, here


def _is_label(feature: Any) -> bool:
    """Returns whether a feature is a single boolean or whole number."""
    is_bool = feature.shape == () and np.dtype(feature.np_dtype) == np.bool_
    return is_bool or _is_whole(feature)


def _is_whole(feature: Any) -> bool:
    """Returns whether a feature is a single whole number; text and sequences are not."""
    return feature.shape == () and np.issubdtype(np.dtype(feature.np_dtype), np.integer)


def _class_names(name: str, feature: Any) -> tuple[str, ...]:
    if isinstance(feature, tfds.features.ClassLabel):
        return tuple(str(text) for text in feature.names)
    return (f"not_{name}", name)


def _nested(paths: list[tuple[str, ...]]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        here = tree
        for key in path[:-1]:
            here = here.setdefault(key, {})
        here[path[-1]] = True
    return tree


def _follow(tree: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        tree = tree[key]
    return tree
