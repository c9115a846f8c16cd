"""Opens the data set of a configuration, and prepares its store if it is missing."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.config.data import dataset_defaults
from tf_mtl_privacy.data.dataset import Dataset, from_store
from tf_mtl_privacy.data.preparing import prepare_store, store_folder
from tf_mtl_privacy.data.sources.base import DataSource, source_maker
from tf_mtl_privacy.data.store import META, Store, cache_folder
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.tf_loading import load_tensorflow


def open_dataset(config: DataConfig, *, prepare: bool = True) -> Dataset:
    """Opens the data set that `config` describes.

    Args:
        config: which data.
        prepare: make its store if it is missing.

    Raises:
        UsageError: the source is missing, or has no such labels.
        RunError: too many damaged images, a full disk, or the store is missing and `prepare` is
            False.
    """
    return from_store(open_store(config, prepare=prepare), config)


def open_store(config: DataConfig, *, prepare: bool = True) -> Store:
    """Opens the store of `config`; see `open_dataset`."""
    source = open_source(config)
    folder = store_folder(source, cache_folder(config.cache_dir))
    if not (folder / META).exists():
        if not prepare:
            raise RunError(f"no prepared store {folder}: run tf_mtl_privacy.prepare first")
        prepare_store(source, folder, max_damaged=config.max_damaged)
    return Store(folder)


def open_source(config: DataConfig) -> DataSource:
    """Returns the source of `config`.

    Raises:
        UsageError: its folder is missing or not in the official layout.
    """
    return source_maker(config.dataset)(config)


def check_source(config: DataConfig) -> None:
    """Checks, without preparing it, that a data set is prepared or can be prepared.

    Of a source that imports TensorFlow only the folder is checked.

    Raises:
        UsageError: the folder is missing or not in the official layout.
        RunError: there is no store, and none can be written.
    """
    if dataset_defaults(config.dataset).needs_tensorflow:
        if config.data_dir and not Path(config.data_dir).expanduser().is_dir():
            raise UsageError(f"--data_dir={config.data_dir}: no such folder")
        return
    source, cache = open_source(config), cache_folder(config.cache_dir)
    try:
        existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        # A store in a folder that cannot be written can still be read.
        if not (store_folder(source, cache) / META).exists():
            raise RunError(
                f"--cache_dir={cache}: cannot write there: {error.strerror or error}; give another "
                "folder"
            ) from error


def prepare_data(
    config: DataConfig, *, workers: int = 0, force: bool = False
) -> tuple[Store, bool]:
    """Makes the store of `config` unless it exists.

    Args:
        config: which data, at which size.
        workers: threads that read pictures; 0 means one per core.
        force: make it again even if it exists.

    Returns:
        `(store, made)`; `made` is False if the store existed.

    Raises:
        UsageError: the data set is missing or not in its official layout.
        RunError: too many damaged images, or the store cannot be written.
    """
    if dataset_defaults(config.dataset).needs_tensorflow:
        load_tensorflow()
    source = open_source(config)
    folder = store_folder(source, cache_folder(config.cache_dir))
    made = force or not (folder / META).exists()
    if made:
        if config.dataset != "synthetic_faces":
            load_tensorflow()  # decodes picture files
        prepare_store(source, folder, max_damaged=config.max_damaged, workers=workers, force=force)
    return Store(folder), made
