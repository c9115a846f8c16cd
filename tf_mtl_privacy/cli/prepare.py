"""Command `prepare`: makes the store of a data set."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

from tf_mtl_privacy.cli.options import CommonOptions, Parsed
from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import OK

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.data.store import Store

_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class PrepareOptions(CommonOptions):
    """Options of `prepare`."""

    config: str = option("", "A saved config.json to start from; flags override it.")
    force: bool = option(False, "Prepare again even if the store is already there.")
    verify: bool = option(False, "Read the whole store and compare it with its checksum.")
    workers: int = option(0, "Threads that decode images; 0 means one per core.", low=0)

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        without = " without --force" if self.force else ""
        return f"rerun the same command{without} to continue with the remaining pictures"


def main(parsed: Parsed) -> int:
    """Prepares the store and prints a summary."""
    from tf_mtl_privacy.data.dataset import from_store
    from tf_mtl_privacy.data.opening import prepare_data
    from tf_mtl_privacy.reporting.formats import show

    started = time.monotonic()
    options: PrepareOptions = parsed.options
    store, made = prepare_data(parsed.data, workers=options.workers, force=options.force)
    if options.verify:
        store.verify()
    seconds = time.monotonic() - started
    # Also checks that the store has the requested labels.
    show(summary(store, from_store(store, parsed.data), made, seconds, options.verify))
    return OK


def summary(
    store: Store, dataset: Dataset, made: bool, seconds: float, verified: bool = False
) -> str:
    """Returns a few lines about the store, its rows by split and their classes."""
    from tf_mtl_privacy.data.dataset import class_lines, class_warnings

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
    """Returns a checksum that may be published: keyed for pictures of people."""
    from tf_mtl_privacy.data.fingerprints import fingerprint_key, keyed

    if store.meta["name"] == "synthetic_faces":
        return store.checksum
    return keyed(store.checksum, fingerprint_key(store.folder.parent))
