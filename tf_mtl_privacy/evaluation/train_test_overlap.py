"""Finds the rows that a run was trained on, to prevent tests on them."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.errors import RunError, UsageError

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset

# Options for the place of the data, which do not change the data.
PLACES = ("data_dir", "cache_dir", "max_damaged")
OTHER_DATA = "other data than the run's: the people seen in training are unknown"


def asks_alike(own: DataConfig, used: DataConfig) -> bool:
    """Returns True if two configurations select the same rows and labels, in any folder.

    Fingerprints do not show this: they are of the pictures and tables, which hold many labels and
    splits.
    """
    return all(
        getattr(own, field.name) == getattr(used, field.name)
        for field in dataclasses.fields(own)
        if field.name not in PLACES
    )


class SeenPeople(NamedTuple):
    """Evaluated people with training rows.

    Attributes:
        people: their number; None where unknown.
        unseen: `[N]` bool, rows of people without a training row; None where unknown.
        reason: why it is unknown, else empty.
    """

    people: int | None
    unseen: np.ndarray[Any, Any] | None
    reason: str = ""


NOT_KNOWN = SeenPeople(None, None, "the data does not identify people")


def own_dataset(
    own: DataConfig, trained_on: str, used: DataConfig, dataset: Dataset
) -> Dataset | None:
    """Returns the run's own rows within the data that it is evaluated on.

    Args:
        own: the run's data.
        trained_on: fingerprint of the data that the run was trained on; empty where unknown.
        used: the data to evaluate on.
        dataset: `used`, opened.

    Returns:
        The data set that `own` asks for, with the same row numbers or keys as `dataset`; None
        where `dataset` is other data.

    Raises:
        RunError: the run's own data has changed since training, or cannot be compared without the
            secret of its fingerprint.
    """
    # Imported here, because flags are read before TensorFlow is loaded.
    from tf_mtl_privacy.data.fingerprints import fingerprint_key, keyed, stands_for, unknown_key
    from tf_mtl_privacy.data.opening import open_dataset, open_source
    from tf_mtl_privacy.data.store import cache_folder

    if used.dataset != own.dataset:
        return None
    places = {name: getattr(used, name) for name in PLACES}
    own_here = dataclasses.replace(own, **places)
    keys = [cache_folder(config.cache_dir) for config in (used, own)]
    if own_here == used and (not trained_on or dataset.matches(trained_on, *keys)):
        # Older runs have no fingerprint of their data.
        return dataset
    if own.dataset == "synthetic_faces":
        # Its splits are random streams: other options give other pictures.
        if own_here == used:
            raise RunError(_changed(own, dataset.fingerprint, trained_on))
        return dataset if dataset.matches(trained_on) else None
    here = open_source(own_here).fingerprint()
    same = stands_for(trained_on, here, keys)
    if same is None:
        raise RunError(
            f"{_asked(own)}: cannot tell if this is the data that the run was trained on, as "
            + unknown_key(trained_on, keys[0])
        )
    same_place = os.path.abspath(own.data_dir) == os.path.abspath(used.data_dir)
    if same_place and trained_on and not same:
        raise RunError(_changed(own, keyed(here, fingerprint_key(keys[0])), trained_on))
    if same_place or same:
        return dataset if own_here == used else open_dataset(own_here)
    return None


def refuse_trained_rows(own: Dataset, dataset: Dataset, split: str) -> None:
    """Refuses to evaluate on rows that the run was trained on, unless `split` is "train".

    Args:
        own: the run's own rows, see `own_dataset`.
        dataset: the evaluated data.
        split: the evaluated split.

    Raises:
        UsageError: with the number of such rows.
    """
    if split == "train" or own is dataset:
        return
    chosen = _names(dataset, split)
    trained = int(np.isin(chosen, _names(own, "train")).sum())
    if trained:
        raise UsageError(
            f"--split={split}: the run was trained on {trained} of these {len(chosen)} rows with "
            "its own data flags; omit the data flags, or give --split=train"
        )


def seen_people(own: Dataset | None, dataset: Dataset, rows: np.ndarray[Any, Any]) -> SeenPeople:
    """Finds the people among `rows` (`[N]` int64 of `dataset`) with training rows.

    Args:
        own: the run's own rows, or None where `dataset` is other data.
        dataset: the evaluated data.
        rows: the evaluated rows.
    """
    if own is None:
        return SeenPeople(None, None, OTHER_DATA)
    if own.person is None or dataset.person is None:
        return NOT_KNOWN
    trained = np.unique(own.person[own.rows["train"]])
    person = dataset.person[rows]
    seen = np.isin(person, trained[trained >= 0])
    return SeenPeople(len(np.unique(person[seen])), ~seen & (person >= 0))


def _names(dataset: Dataset, split: str) -> np.ndarray[Any, Any]:
    rows = dataset.rows[split]
    return rows if dataset.keys is None else dataset.keys[rows]


def _changed(own: DataConfig, now: str, before: str) -> str:
    return (
        f"{_asked(own)}: not the data that the run was trained on (fingerprint "
        f"{now[:8]}, then {before[:8]}); rows may have moved between splits, so test rows may be "
        "training rows: restore the original data, train again, or give other test data"
    )


def _asked(own: DataConfig) -> str:
    return f"--dataset={own.dataset}" + (f" --data_dir={own.data_dir}" if own.data_dir else "")
