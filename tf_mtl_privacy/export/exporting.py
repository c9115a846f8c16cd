"""Exports a finished run as a SavedModel version for TensorFlow Serving."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.export.extra_files import (
    describe,
    require_stubs,
    write_checksums,
    write_extra,
    write_warmup,
)
from tf_mtl_privacy.export.server_files import write_server_files
from tf_mtl_privacy.export.signatures import build_signatures, missing_signatures
from tf_mtl_privacy.export.version_folder import publish
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.serving_signature import EXTRA_FOLDER, WARMUP_FILE
from tf_mtl_privacy.training.saved_run import SavedRun

_STEPS = 4


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported version.

    Attributes:
        folder: the version's folder.
        labels: content of `labels.json`, see `describe`.
        not_overwritten: names of existing server files with other content than the export's.
    """

    folder: Path
    labels: dict[str, Any]
    not_overwritten: list[str]


def export_run(
    run: SavedRun,
    export_dir: str | os.PathLike[str],
    card: Mapping[str, Any],
    *,
    name: str,
    version: int = 0,
    with_discriminator: bool = False,
) -> Exported:
    """Exports a run to `export_dir`/<version>/, with the server's files beside it.

    Args:
        run: a finished run.
        export_dir: the model's folder; created if missing.
        card: the run's privacy card.
        name: the model's name; letters, digits, `_` and `-` only.
        version: number of the version; 0 for the next free one.
        with_discriminator: see `build_signatures`.

    Raises:
        UsageError: the version exists.
        RunError: the folder cannot be written, or TensorFlow Serving's stubs are not installed.
    """
    require_stubs()
    labels: dict[str, Any] = {}
    not_overwritten: list[str] = []
    with Progress(_STEPS, "exporting", "steps") as progress:

        def write(folder: Path, number: int) -> None:
            module, signatures = build_signatures(run, with_discriminator=with_discriminator)
            missing = missing_signatures(run, with_discriminator=with_discriminator)
            labels.update(describe(run, signatures, missing, name, number))
            progress.update(note="signatures traced")
            _save(module, folder, signatures)
            progress.update(note="model written")
            extra = folder / EXTRA_FOLDER
            extra.mkdir()
            write_extra(extra, run, labels, card)
            write_warmup(extra / WARMUP_FILE, name, signatures, labels["image_size"])
            write_checksums(folder)
            # Written before the version appears, so that a server can start on it at once.
            not_overwritten.extend(write_server_files(folder.parent, name, tf.__version__))
            progress.update(note="server files written")

        folder = publish(export_dir, version, write)
        progress.update(note="version published")
    return Exported(folder, labels, not_overwritten)


def _save(module: tf.Module, folder: Path, signatures: Mapping[str, Any]) -> None:
    try:
        tf.saved_model.save(module, str(folder), signatures=dict(signatures))
    except (tf.errors.OpError, OSError) as error:
        raise RunError(f"cannot write the model to {folder}: {error}") from error
