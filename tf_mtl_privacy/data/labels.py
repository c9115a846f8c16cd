"""From raw attributes to the labels of the tasks and the private label."""

from __future__ import annotations

import difflib
import itertools
from typing import NamedTuple

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.classes import with_classes
from tf_mtl_privacy.data.identity import choose_people, split_by_person
from tf_mtl_privacy.data.source import Table
from tf_mtl_privacy.errors import UsageError


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


def make_targets(table: Table, config: DataConfig) -> Targets:
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


def attribute(table: Table, name: str, asked: str) -> np.ndarray:
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


def joint_code(table: Table, names: list[str]) -> tuple[np.ndarray, tuple[str, ...]]:
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


def _identity(table: Table, config: DataConfig) -> tuple[np.ndarray, tuple[str, ...], np.ndarray]:
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
