"""From a configuration to a data set: finds the source, prepares its store if it is missing."""

from __future__ import annotations

import importlib
from typing import Any

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data.dataset import Dataset, from_store
from tf_mtl_privacy.data.preparing import prepare_store, store_folder
from tf_mtl_privacy.data.sources.base import Source
from tf_mtl_privacy.data.store import META, Store, cache_folder
from tf_mtl_privacy.errors import RunError

# Imported when asked for: synthetic faces need neither TensorFlow nor tensorflow-datasets.
_SOURCES = {
    "synthetic_faces": ("tf_mtl_privacy.data.sources.synthetic", "SyntheticSource"),
    "celeba": ("tf_mtl_privacy.data.sources.celeba", "CelebASource"),
    "lfw": ("tf_mtl_privacy.data.sources.lfw", "LFWSource"),
    "csv": ("tf_mtl_privacy.data.sources.csv_folder", "CsvSource"),
    "tfds": ("tf_mtl_privacy.data.sources.tfds", "TfdsSource"),
}


def open_source(config: DataConfig) -> Source:
    """The source that `config` names.

    Raises:
        UsageError: its folder is missing or not in the official layout.
    """
    module, name = _SOURCES[config.dataset.partition(":")[0]]
    kind: Any = getattr(importlib.import_module(module), name)
    source: Source = kind(config)
    return source


def open_store(config: DataConfig, *, prepare: bool = True) -> Store:
    """Opens the store of `config`, and makes it first where it is missing.

    Raises:
        UsageError: the source is not there.
        RunError: too many damaged images, a full disk, or `prepare` is False and there is none.
    """
    source = open_source(config)
    folder = store_folder(source, cache_folder(config.cache_dir))
    if not (folder / META).exists():
        if not prepare:
            raise RunError(f"no prepared store {folder}: run tf_mtl_privacy.prepare first")
        prepare_store(source, folder, max_damaged=config.max_damaged)
    return Store(folder)


def open_dataset(config: DataConfig, *, prepare: bool = True) -> Dataset:
    """The data set that `config` asks for; see `open_store` and `from_store` for what it raises."""
    return from_store(open_store(config, prepare=prepare), config)
