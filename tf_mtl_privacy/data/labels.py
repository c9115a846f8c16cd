"""From raw attributes to the labels of the tasks and the private label.

Classes of an attribute: bins of its numbers, and their order.

Identity as the private label: which people, and which of their images are held out.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.config.data import PERSON_SPLIT_VERSION
from tf_mtl_privacy.config.options import parse_bins, parse_class_order
from tf_mtl_privacy.data.sources.base import DAMAGED, TEST, TRAIN, VALIDATION, LabelTable
from tf_mtl_privacy.data.splitting import name_hashes
from tf_mtl_privacy.errors import UsageError

# Cells that say that nothing is known, where they should be empty.
MISSING = ("nan", "na", "n/a", "null", "none", "?")


def with_classes(table: LabelTable, config: DataConfig) -> LabelTable:
    """The table with `--bins` and `--class_order` in force.

    Raises:
        UsageError: an attribute that is not there, a class that is not a number, or an order that
            does not have every class once.
    """
    attributes, classes = dict(table.attributes), dict(table.attribute_classes)

    def known(flag: str, text: str, name: str) -> str:
        if name not in attributes:
            raise UsageError(
                f"--{flag}={text}: no attribute {name!r}; there are: "
                f"{', '.join(sorted(attributes)) or 'none'}"
            )
        return f"--{flag}={text}: {name}"

    for name, edges in parse_bins(config.bins).items():
        asked = known("bins", config.bins, name)
        attributes[name], classes[name] = _binned(attributes[name], classes[name], edges, asked)
    for name, order in parse_class_order(config.class_order).items():
        asked = known("class_order", config.class_order, name)
        if set(order) != set(classes[name]):
            raise UsageError(f"{asked}: expected every class once: {':'.join(classes[name])}")
        attributes[name] = reordered(attributes[name], classes[name], order)
        classes[name] = order
    return dataclasses.replace(table, attributes=attributes, attribute_classes=classes)


def bin_names(edges: Sequence[float]) -> tuple[str, ...]:
    """Names of the classes between rising `edges`: one more than there are edges."""
    text = [f"{edge:g}" for edge in edges]
    between = [f"{low} to {high}" for low, high in itertools.pairwise(text)]
    return (f"below {text[0]}", *between, f"{text[-1]} and above")


def reordered(values: np.ndarray, classes: Sequence[str], order: Sequence[str]) -> np.ndarray:
    """Class numbers in another order of the same classes.

    Args:
        values: int32 class numbers of any shape; negative ones (unknown) stay.
        classes: names by number.
        order: the same names.
    """
    number = np.array([*(list(order).index(name) for name in classes), -1], np.int32)
    return np.where(values >= 0, number[values], values).astype(np.int32)


def _binned(
    values: np.ndarray, classes: Sequence[str], edges: Sequence[float], asked: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    numbers = []
    for text in classes:
        number = math.nan if text.lower() in MISSING else number_of(text)
        if number is None:
            raise UsageError(f"{asked}: its class {text!r} is not a number")
        # A value of the edge itself belongs to the class above it.
        place = int(np.searchsorted(edges, number, side="right"))
        numbers.append(-1 if math.isnan(number) else place)
    found = np.where(values >= 0, np.array([*numbers, -1], np.int32)[values], -1)
    return found.astype(np.int32), bin_names(edges)


def alike(classes: Sequence[str]) -> list[list[str]]:
    """Groups of class names that are the same but for case, blanks, or how a number is written."""
    groups: dict[object, list[str]] = {}
    for text in classes:
        value = number_of(text)
        groups.setdefault(" ".join(text.casefold().split()) if value is None else value, []).append(
            text
        )
    return [group for group in groups.values() if len(group) > 1]


def number_of(text: str) -> float | None:
    """Reads a class name as a finite number; None where it is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def other_order(some: Sequence[str], others: Sequence[str]) -> bool:
    """Says if two data sets have the same classes under other numbers."""
    return tuple(some) != tuple(others) and sorted(some) == sorted(others)


# One image to learn a person from, one to validate on, one to test on.
_LEAST_IMAGES = 3


def choose_people(person: np.ndarray, split: np.ndarray, count: int) -> np.ndarray:
    """The `count` people with most undamaged images; ties go to the smaller number.

    Args:
        person: `[N]` int64, -1 unknown.
        split: `[N]` int8; damaged rows do not count.
        count: how many people, > 0.

    Returns:
        `[count]` int64 numbers of people, ascending.

    Raises:
        UsageError: fewer than `count` people have at least three images.
    """
    people, images = np.unique(person[(person >= 0) & (split != DAMAGED)], return_counts=True)
    people, images = people[images >= _LEAST_IMAGES], images[images >= _LEAST_IMAGES]
    if len(people) < count:
        raise UsageError(
            f"--num_identities={count}: only {len(people)} people have {_LEAST_IMAGES} or more "
            "usable images"
        )
    by_images = np.lexsort((people, -images))
    return np.sort(people[by_images[:count]])


def split_by_person(
    private: np.ndarray,
    split: np.ndarray,
    holdout: float,
    seed: int,
    *,
    names: np.ndarray | None = None,
    version: int = PERSON_SPLIT_VERSION,
) -> np.ndarray:
    """Splits each chosen person's images anew, so that all are in train, validation and test.

    Of n images, `round(holdout * n)` (at least 1) are for testing, half as many (at least 1) for
    validation, the rest (at least 1) for training. They are taken in the order of a hash of the
    row's name keyed with `seed`, person by person: a person who is added or removed moves no row
    of anybody else. An image that is added or removed can move others of the same person, so an
    epsilon compares tables after this choice. Rows of nobody keep their split.

    Args:
        private: `[N]` int32 class of the person, -1 for everybody else.
        split: `[N]` int8; damaged rows stay damaged.
        holdout: share for testing, in (0, 0.5].
        seed: >= 0.
        names: `[N]` what stays the same when other rows come or go (file names); by default the
            row numbers, which do not where rows are numbered anew.
        version: 1 orders the rows by a permutation of all row numbers, as runs did before
            `DataConfig.split_version` was recorded; there one person moves the rows of others.

    Returns:
        `[N]` int8.
    """
    result = split.copy()
    if version == 1:
        order = np.random.Generator(np.random.Philox(key=seed)).permutation(len(private))
    else:
        order = np.argsort(
            name_hashes(np.arange(len(private)) if names is None else names, seed), kind="stable"
        )
    order = order[(private[order] >= 0) & (split[order] != DAMAGED)]
    by_person = order[np.argsort(private[order], kind="stable")]
    _, counts = np.unique(private[by_person], return_counts=True)
    for rows in np.split(by_person, np.cumsum(counts)[:-1]):
        testing = min(max(round(holdout * len(rows)), 1), max(len(rows) - 2, 1))
        validating = min(max(testing // 2, 1), max(len(rows) - testing - 1, 0))
        result[rows] = TRAIN
        result[rows[:testing]] = TEST
        result[rows[testing : testing + validating]] = VALIDATION
    return result


class Labels(NamedTuple):
    """Labels of n rows.

    Attributes:
        business: task name -> `[n]` int32 class number, -1 where unknown.
        private: `[n]` int32 class number, -1 where unknown.
    """

    business: dict[str, np.ndarray]
    private: np.ndarray


class Targets(NamedTuple):
    """Labels of all rows with the names of their classes, and the split that goes with them."""

    labels: Labels
    task_classes: dict[str, tuple[str, ...]]
    private_classes: tuple[str, ...]
    split: np.ndarray


def make_targets(table: LabelTable, config: DataConfig) -> Targets:
    """Picks the tasks and the private label out of the raw attributes.

    Raises:
        UsageError: an attribute that is not there or cannot serve, or too few people.
    """
    tasks, table = config.task_attributes, with_classes(table, config)
    business = {
        task: attribute(table, name, f"--tasks={task}={name}") for task, name in tasks.items()
    }
    split = table.split
    kind = config.effective_private_label
    classes: tuple[str, ...] = ()
    if kind == "none":
        private = np.full(len(split), -1, np.int32)
    elif kind == "identity":
        private, classes, split = _identity(table, config)
    elif kind.startswith("attributes:"):
        private, classes = joint_code(table, kind.removeprefix("attributes:").split(","))
    else:
        private = attribute(table, kind, f"--private_label={kind}")
        classes = table.attribute_classes[kind]
    names = {task: table.attribute_classes[name] for task, name in tasks.items()}
    return Targets(Labels(business, private), names, classes, split)


def attribute(table: LabelTable, name: str, asked: str) -> np.ndarray:
    """The labels ([N] int32) of attribute `name`; `asked` is the flag that names it.

    Raises:
        UsageError: there is no such attribute; the message lists close matches and all names.
    """
    if name in table.attributes:
        return table.attributes[name]
    known = sorted(table.attributes)
    by_lower = {other.lower(): other for other in known}
    close = difflib.get_close_matches(name.lower(), list(by_lower), n=3)
    hint = f"did you mean {' or '.join(by_lower[c] for c in close)}? " if close else ""
    raise UsageError(
        f"{asked}: no attribute {name!r}; {hint}there are: {', '.join(known) or 'none'}"
    )


def joint_code(table: LabelTable, names: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
    """One label for a combination of n binary attributes: 2^n classes, the first name leading.

    Returns:
        `([N] int32, class names)`; -1 where any of the attributes is unknown.

    Raises:
        UsageError: an attribute that is unknown or not binary.
    """
    asked = "--private_label=attributes:" + ",".join(names)
    code, known = np.zeros(len(table.split), np.int32), np.ones(len(table.split), bool)
    for name in names:
        values = attribute(table, name, asked)
        if len(table.attribute_classes[name]) != 2:
            raise UsageError(
                f"{asked}: {name} has {len(table.attribute_classes[name])} classes, expected 2"
            )
        code, known = code * 2 + values, known & (values >= 0)
    combinations = itertools.product((0, 1), repeat=len(names))
    classes = tuple(
        ",".join(f"{name}={bit}" for name, bit in zip(names, bits, strict=True))
        for bits in combinations
    )
    return np.where(known, code, -1).astype(np.int32), classes


def _identity(
    table: LabelTable, config: DataConfig
) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
    if table.person is None:
        raise UsageError(f"--private_label=identity: {config.dataset} has no identities here")
    people = choose_people(table.person, table.split, config.num_identities)
    # Class numbers follow the person's own number, so they do not depend on picture counts.
    position = np.clip(np.searchsorted(people, table.person), 0, len(people) - 1)
    private = np.where(people[position] == table.person, position, -1).astype(np.int32)
    split = table.split
    if config.dataset != "synthetic_faces":
        split = split_by_person(
            private,
            split,
            config.identity_holdout,
            config.data_seed,
            names=table.keys,
            version=config.split_version,
        )
    missing = np.setdiff1d(np.arange(len(people)), private[split == 0])
    if len(missing):
        raise UsageError(
            f"--num_identities={config.num_identities}: {len(missing)} of these people have no "
            "training image; ask for fewer people or more --train_rows"
        )
    return private, tuple(f"person{number}" for number in people), split
