"""Makes the store of a data set: `python -m tf_mtl_privacy.prepare --dataset=celeba ...`."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tf_mtl_privacy import cli
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.reporting.formats import show

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.data.store import Store

_SHOWN = 3


def check_source(data: DataConfig) -> None:
    """Makes sure that a data set can be prepared or is prepared, without preparing it.

    Raises:
        UsageError: the folder is missing or not in the official layout. Of tfds, which loads
            TensorFlow, only the folder is looked at.
        RunError: there is no store, and none can be written.
    """
    from tf_mtl_privacy.data.opening import open_source
    from tf_mtl_privacy.data.preparing import store_folder
    from tf_mtl_privacy.data.store import META, cache_folder

    if data.dataset.startswith("tfds:"):
        if not Path(data.data_dir).expanduser().is_dir():
            raise UsageError(f"--data_dir={data.data_dir}: no such folder")
        return
    source, cache = open_source(data), cache_folder(data.cache_dir)
    try:
        there = next(folder for folder in (cache, *cache.parents) if folder.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        # Somebody else's store can be read all the same.
        if not (store_folder(source, cache) / META).exists():
            raise RunError(
                f"--cache_dir={cache}: cannot write there: {error.strerror or error}; give another "
                "folder"
            ) from error


def prepare_data(
    config: DataConfig, *, workers: int = 0, force: bool = False
) -> tuple[Store, bool]:
    """Makes the store of `config` unless it is there.

    Args:
        config: which data, at which size.
        workers: threads that read pictures; 0 means one per core.
        force: make it again even if it is there.

    Returns:
        `(store, made)`; `made` is False where it was there already.

    Raises:
        UsageError: the data set is not there or not in its official layout.
        RunError: too many damaged images, or the store cannot be written.
    """
    from tf_mtl_privacy.data.opening import open_source
    from tf_mtl_privacy.data.preparing import prepare_store, store_folder
    from tf_mtl_privacy.data.store import META, Store, cache_folder

    if config.dataset.startswith("tfds:"):
        cli.load_tensorflow()
    source = open_source(config)
    folder = store_folder(source, cache_folder(config.cache_dir))
    made = force or not (folder / META).exists()
    if made:
        if config.dataset != "synthetic_faces":
            cli.load_tensorflow()
        prepare_store(source, folder, max_damaged=config.max_damaged, workers=workers, force=force)
    return Store(folder), made


def summary(
    store: Store, dataset: Dataset, made: bool, seconds: float, verified: bool = False
) -> str:
    """Says in a few lines what was done and which classes the rows have."""
    from tf_mtl_privacy.data.class_counts import class_lines, class_warnings

    splits = ", ".join(f"{name} {len(rows)}" for name, rows in dataset.rows.items())
    damaged = store.meta["damaged"]
    lines = [
        f"{'prepared' if made else 'already prepared'}: {store.meta['name']}, {len(store)} rows of "
        f"{store.size}x{store.size} pixels, {seconds:.1f} s",
        f"rows:     {splits}",
        *(f"classes:  {text}" for text in class_lines(dataset)),
        f"damaged:  {len(damaged)}"
        + (f" (listed in {store.folder}/damaged.csv)" if damaged else ""),
        *(f"          {key}: {reason}" for _, key, reason in damaged[:_SHOWN]),
        f"store:    {store.folder}",
        f"checksum: {_checksum(store)}{' (verified)' if verified else ''}",
        *(f"warning:  {text}" for text in (*store.meta["warnings"], *class_warnings(dataset))),
        *(f"note:     {text}" for text in dataset.notes),
    ]
    return "\n".join(lines)


def _checksum(store: Store) -> str:
    """The store's checksum as it may be shown around: keyed where it is of people."""
    from tf_mtl_privacy.data.fingerprints import fingerprint_key, keyed

    if store.meta["name"] == "synthetic_faces":
        return store.checksum
    return keyed(store.checksum, fingerprint_key(store.folder.parent))


def main(parsed: Parsed) -> int:
    """Prepares, and prints what it did."""
    from tf_mtl_privacy.data.dataset import from_store

    started = time.monotonic()
    options = parsed.options
    store, made = prepare_data(parsed.data, workers=options.workers, force=options.force)
    if options.verify:
        store.verify()
    seconds = time.monotonic() - started
    # Also checks that the store has the labels that were asked for.
    show(summary(store, from_store(store, parsed.data), made, seconds, options.verify))
    return cli.OK


if __name__ == "__main__":
    cli.run("prepare", main)
