"""A data set as training and evaluation see it: rows by split, labels, batches."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.fingerprints import fingerprint_key, published, stands_for
from tf_mtl_privacy.data.labels import (
    MISSING,
    Labels,
    alike,
    make_targets,
    number_of,
    other_order,
    reordered,
)
from tf_mtl_privacy.data.sources.base import SPLITS, fingerprint
from tf_mtl_privacy.data.splitting import limit_rows
from tf_mtl_privacy.data.store import ArrayStore, Pixels, Store, cache_folder
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.types import Batch

IDENTITY_NOTE = (
    "With --private_label=identity the business tasks are tested on other pictures of people seen "
    "in training, not on new people. The choice of these people, by their numbers of images, is "
    "taken as given: no epsilon covers it."
)
OLD_SPLIT_NOTE = (
    "The rows were chosen by --split_version=1, in which one person more or less moves rows of "
    "others: an epsilon of a person does not hold for this run, and one of a row only for the rows "
    "as they were chosen."
)


# From here on classes are counted as dozens; so many are shown.
MANY_CLASSES, _SHOWN = 24, 12
_PERSON = re.compile(r"person\d+")


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Rows of a store with the labels of one choice of tasks and private label.

    Attributes:
        name: the data set's name.
        store: where pictures come from, by row number.
        task_classes: task name -> names of its classes.
        private_classes: names of the private label's classes; empty without a private label.
        rows: split name -> `[n]` int64 row numbers, ascending; train, validation and test are
            always there, possibly empty.
        all_labels: labels of every row of the store.
        person: `[N]` int64 number of the person, -1 where unknown; None where nobody is known.
        landmarks: `[N, 10]` float32 pixels, see `LabelTable`; None where there are none.
        keys: `[N]` file name or other name of the row.
        notes: what must be said beside results on this data.
        digest: hex text that changes with pixels or raw labels. Not to be published, unless the
            faces are drawn: who guesses a row could check the guess.
        key_folder: where the secret lies with which `digest` is published; None for drawn faces,
            whose digest is no secret.
    """

    name: str
    store: Pixels
    task_classes: dict[str, tuple[str, ...]]
    private_classes: tuple[str, ...]
    rows: dict[str, np.ndarray]
    all_labels: Labels
    person: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    keys: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    digest: str = ""
    key_folder: Path | None = None

    @property
    def fingerprint(self) -> str:
        """Fingerprint that may be published in place of `digest`, see `fingerprints`; may be empty.

        Raises:
            RunError: the secret cannot be read or made.
        """
        return published(self.digest, self.key) if self.digest else ""

    @property
    def key(self) -> bytes | None:
        """Secret that keys every published digest of pixels, labels or row numbers.

        None for drawn faces, which are of nobody.

        Raises:
            RunError: the secret cannot be read or made.
        """
        return None if self.key_folder is None else fingerprint_key(self.key_folder)

    def matches(self, recorded: str, *folders: Path) -> bool | None:
        """Compares the data with a fingerprint that was recorded earlier.

        Args:
            recorded: a `fingerprint`, or a plain digest, as older runs have.
            folders: where else than in `key_folder` keys may lie.

        Returns:
            Whether it is the same data; None where that takes a key that is not there.
        """
        if self.key_folder is None:
            return recorded == self.digest
        return stands_for(recorded, self.digest, (self.key_folder, *folders))

    def aligned(
        self, task_classes: Mapping[str, Sequence[str]], private_classes: Sequence[str]
    ) -> Dataset:
        """The data with class numbers as a trained model has them, where the names are the same.

        Args:
            task_classes: the model's, by task.
            private_classes: the model's.

        Returns:
            The data set itself where nothing is to do.
        """
        labels, names = self.all_labels, dict(self.task_classes)
        business, private = dict(labels.business), labels.private
        for task, classes in task_classes.items():
            if task in names and other_order(names[task], classes):
                business[task] = reordered(business[task], names[task], classes)
                names[task] = tuple(classes)
        hidden = self.private_classes
        if other_order(hidden, private_classes):
            private = reordered(private, hidden, private_classes)
            hidden = tuple(private_classes)
        if names == self.task_classes and hidden == self.private_classes:
            return self
        return dataclasses.replace(
            self,
            task_classes=names,
            private_classes=hidden,
            all_labels=Labels(business, private),
        )

    @property
    def image_size(self) -> int:
        """Height and width of the images, in pixels."""
        return self.store.size

    def labels(self, split: str) -> Labels:
        """Labels of the rows of `split`, in the order of `rows[split]`."""
        return self.labels_of(self.rows[split])

    def labels_of(self, rows: np.ndarray) -> Labels:
        """Labels of `rows` ([n] int64 in [0, N))."""
        business = {task: values[rows] for task, values in self.all_labels.business.items()}
        return Labels(business, self.all_labels.private[rows])

    def batch(self, rows: np.ndarray, capacity: int | None = None) -> Batch:
        """Reads `rows` ([n] int64; -1 is padding), padded to `capacity` rows if that is more.

        Padding has a black image, labels -1, index -1 and mask False.

        Raises:
            ValueError: more rows than `capacity`.
            IndexError: a row that the store does not have.
        """
        size = len(rows) if capacity is None else capacity
        if len(rows) > size:
            raise ValueError(f"{len(rows)} rows do not fit into capacity={size}")
        index = np.full(size, -1, np.int64)
        index[: len(rows)] = rows
        mask = index >= 0
        return Batch(
            image=self._images(index, mask),
            business={
                task: np.where(mask, values[index], np.int32(-1))
                for task, values in self.all_labels.business.items()
            },
            private=np.where(mask, self.all_labels.private[index], np.int32(-1)),
            index=np.where(mask, index, -1),
            mask=mask,
        )

    def _images(self, index: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if mask.all():
            return self.store.images(index)
        images = np.zeros((len(index), self.image_size, self.image_size, 3), np.uint8)
        images[mask] = self.store.images(index[mask])
        return images

    @classmethod
    def from_arrays(
        cls,
        images: np.ndarray,
        business: Mapping[str, np.ndarray],
        private: np.ndarray | None = None,
        *,
        split: np.ndarray,
        task_classes: Mapping[str, tuple[str, ...]] | None = None,
        private_classes: tuple[str, ...] | None = None,
        person: np.ndarray | None = None,
        regions: np.ndarray | None = None,
        name: str = "arrays",
        cache_dir: str = "",
    ) -> Dataset:
        """A data set of pictures that are already in memory.

        Args:
            images: `[N, S, S, 3]` uint8, RGB.
            business: task name -> `[N]` int class numbers, -1 where unknown.
            private: `[N]` int class numbers, -1 where unknown; None for no private label.
            split: `[N]` int, index into `SPLITS` (0 train, 1 validation, 2 test), -1 for unused.
            task_classes: names of the classes; numbers where absent.
            private_classes: names of the private label's classes; numbers where absent.
            person: `[N]` int number of the person, -1 where unknown.
            regions: `[N, S, S]` bool, the true sensitive region.
            name: what to call it.
            cache_dir: folder for the secret that keys its fingerprint; empty means that of the
                prepared stores, ~/.cache/tf_mtl_privacy.

        Raises:
            UsageError: shapes, dtypes or class numbers that do not fit.
        """
        store = ArrayStore(images, regions)
        count = len(store)
        labels = {task: _column(task, values, count) for task, values in business.items()}
        hidden = np.full(count, -1) if private is None else private
        hidden = _column("private", hidden, count)
        named = dict(task_classes or {})
        return cls(
            name=name,
            store=store,
            task_classes={k: _classes(k, v, named.get(k)) for k, v in labels.items()},
            private_classes=() if private is None else _classes("private", hidden, private_classes),
            rows=_rows_by_split(_column("split", split, count)),
            all_labels=Labels(labels, hidden),
            person=None if person is None else _column("person", person, count).astype(np.int64),
            digest=_array_digest(store, labels, hidden, split, person),
            key_folder=cache_folder(cache_dir),
        )


def _array_digest(
    store: ArrayStore,
    labels: Mapping[str, np.ndarray],
    hidden: np.ndarray,
    split: np.ndarray,
    person: np.ndarray | None,
) -> str:
    """Pictures, labels, splits and people: whatever decides who is trained on."""
    columns = [hidden, split, *([] if person is None else [person]), *labels.values()]
    parts = [np.asarray(column, np.int64).tobytes() for column in columns]
    return fingerprint(store.fingerprint, list(labels), person is None, *parts)


def from_store(store: Store, config: DataConfig) -> Dataset:
    """The data set that `config` asks for, on top of a prepared store.

    Raises:
        UsageError: labels that the store cannot give.
    """
    table = store.table
    targets = make_targets(table, config)
    rows = _rows_by_split(targets.split)
    limits = {
        "train": config.train_rows,
        "validation": config.validation_rows,
        "test": config.test_rows,
    }
    by_person = config.effective_private_label == "identity"
    private = targets.labels.private if by_person else np.full(len(store), -1, np.int32)
    if config.dataset != "synthetic_faces":  # drawn with just the rows asked for
        for number, (split, limit) in enumerate(limits.items()):
            seed = 3 * config.data_seed + number
            rows[split] = limit_rows(
                rows[split],
                private,
                limit,
                seed,
                names=table.keys,
                version=config.split_version,
            )
    if by_person:
        _check_people(config, private[rows["train"]], len(targets.private_classes))
    return Dataset(
        name=config.dataset,
        store=store,
        task_classes=targets.task_classes,
        private_classes=targets.private_classes,
        rows=rows,
        all_labels=targets.labels,
        person=table.person,
        landmarks=table.landmarks,
        keys=table.keys,
        notes=(*table.notes, *_choice_notes(config, by_person)),
        digest=store.fingerprint,
        key_folder=None if config.dataset == "synthetic_faces" else store.folder.parent,
    )


def _choice_notes(config: DataConfig, by_person: bool) -> tuple[str, ...]:
    is_old = config.split_version == 1 and config.dataset != "synthetic_faces"
    return ((IDENTITY_NOTE,) if by_person else ()) + ((OLD_SPLIT_NOTE,) if is_old else ())


def _check_people(config: DataConfig, training: np.ndarray, people: int) -> None:
    missing = people - len(np.unique(training[training >= 0]))
    if missing:
        raise UsageError(
            f"--train_rows={config.train_rows}: {missing} of the --num_identities="
            f"{config.num_identities} people keep no training image; ask for fewer people or more "
            "rows"
        )


def _rows_by_split(split: np.ndarray) -> dict[str, np.ndarray]:
    rows = {name: np.flatnonzero(split == code) for code, name in enumerate(SPLITS)}
    return {k: v.astype(np.int64) for k, v in rows.items() if len(v) or k in SPLITS[:3]}


def _column(name: str, values: np.ndarray, count: int) -> np.ndarray:
    column = np.asarray(values)
    if column.shape != (count,) or column.dtype.kind not in "iub":
        raise UsageError(
            f"{name}: expected {count} whole numbers, got {column.dtype} of shape {column.shape}"
        )
    return column.astype(np.int32)


def _classes(name: str, values: np.ndarray, given: tuple[str, ...] | None) -> tuple[str, ...]:
    highest = int(values.max(initial=-1))
    classes = tuple(given) if given else tuple(str(k) for k in range(highest + 1))
    if highest >= len(classes) or int(values.min(initial=-1)) < -1:
        raise UsageError(f"{name}: class number {highest}, but there are {len(classes)} classes")
    return classes


def class_lines(dataset: Dataset) -> list[str]:
    """The classes of each task and of the private label with their numbers of rows, a line each."""
    lines = []
    for name, classes, values in _labels_by_name(dataset):
        found = np.concatenate([values[rows] for rows in dataset.rows.values()])
        counts = np.bincount(found[found >= 0], minlength=len(classes))
        shown = [f"{text} {n}" for text, n in zip(classes, counts, strict=True)]
        left = len(shown) - _SHOWN
        unknown = int((found < 0).sum())
        parts = [*shown[:_SHOWN], *([f"{left} more classes"] if left > 0 else [])]
        parts += [f"unknown {unknown}"] if unknown else []
        lines.append(f"{name}: {', '.join(parts)}")
    return lines


def class_warnings(dataset: Dataset) -> list[str]:
    """Lists oddities in the classes of the tasks and of the private label, a line each."""
    return [
        f"{name}: {text}"
        for name, classes, values in _labels_by_name(dataset)
        for text in _oddities(name, classes, values, dataset.rows)
    ]


def _labels_by_name(dataset: Dataset) -> Iterator[tuple[str, tuple[str, ...], np.ndarray]]:
    labels = dataset.all_labels
    for task, classes in dataset.task_classes.items():
        yield task, classes, labels.business[task]
    if dataset.private_classes:
        yield "private label", dataset.private_classes, labels.private


def _oddities(
    name: str, classes: tuple[str, ...], values: np.ndarray, rows: Mapping[str, np.ndarray]
) -> Iterator[str]:
    for group in alike(classes):
        yield f"the classes {_quoted(group)} differ in writing only and count as {len(group)}"
    missing = [text for text in classes if text.lower() in MISSING]
    if missing:
        yield (
            f"{_quoted(missing)} counts as a class; leave these cells empty if nothing is known "
            "there"
        )
    is_people = all(_PERSON.fullmatch(text) for text in classes)
    if len(classes) >= MANY_CLASSES and not is_people:
        yield f"{len(classes)} classes{_bins_offer(classes, values)}"
    training = values[rows["train"]]
    absent = np.setdiff1d(np.arange(len(classes)), training)
    if len(training) and len(absent):
        few = _quoted([classes[number] for number in absent[:3]])
        more = f" and {len(absent) - 3} more" if len(absent) > 3 else ""
        yield f"no training row is of the class {few}{more}"


def _bins_offer(classes: Sequence[str], values: np.ndarray) -> str:
    """The end of a warning: how to make four classes of numbers, about equally many rows each."""
    numbers = [number_of(text) for text in classes]
    if any(number is None for number in numbers):
        return ""
    known = np.array(numbers, np.float64)[values[values >= 0]]
    if not len(known):
        return ""
    digits = 0 if (known == np.round(known)).all() else 2
    edges = np.unique(np.round(np.quantile(known, (0.25, 0.5, 0.75)), digits))
    text = ":".join(f"{edge:g}" for edge in edges)
    return f", all of them numbers; --bins=ATTRIBUTE={text} makes {len(edges) + 1} of them"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
