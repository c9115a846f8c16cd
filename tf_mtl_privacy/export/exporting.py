"""Writes a finished run as a version that TensorFlow Serving loads."""

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
    write_checksums,
    write_extra,
    write_server_files,
)
from tf_mtl_privacy.export.signatures import build_signatures, missing_signatures
from tf_mtl_privacy.export.version_folder import publish
from tf_mtl_privacy.export.warmup import require_stubs, write_warmup
from tf_mtl_privacy.progress import Progress
from tf_mtl_privacy.serving_signature import EXTRA_FOLDER, WARMUP_FILE
from tf_mtl_privacy.training.saved_run import SavedRun

_STAGES = 4


@dataclasses.dataclass(frozen=True)
class Exported:
    """What an export has written.

    Attributes:
        folder: the version's.
        labels: see `describe`.
        kept: names of server files that were there and differ from what would be written.
    """

    folder: Path
    labels: dict[str, Any]
    kept: list[str]


def export_run(
    run: SavedRun,
    export_dir: str | os.PathLike[str],
    card: Mapping[str, Any],
    *,
    name: str,
    version: int = 0,
    with_discriminator: bool = False,
) -> Exported:
    """Exports a run into `export_dir`/<version>/, and what a server needs beside it.

    Args:
        run: a finished run.
        export_dir: the model's folder; made where it is missing.
        card: the run's privacy card.
        name: the model's name; letters, digits, `_` and `-` only.
        version: its number; 0 for the next free one.
        with_discriminator: see `build_signatures`.

    Raises:
        UsageError: the version is there already.
        RunError: the folder cannot be written to, or the stubs of TensorFlow Serving are missing.
    """
    require_stubs()
    described: dict[str, Any] = {}
    kept: list[str] = []
    with Progress(_STAGES, "exporting", "stages") as progress:

        def write(folder: Path, number: int) -> None:
            module, signatures = build_signatures(run, with_discriminator=with_discriminator)
            missing = missing_signatures(run, with_discriminator=with_discriminator)
            described.update(describe(run, signatures, missing, name, number))
            progress.update(note="signatures traced")
            _save(module, folder, signatures)
            progress.update(note="model written")
            extra = folder / EXTRA_FOLDER
            extra.mkdir()
            write_extra(extra, run, described, card)
            write_warmup(extra / WARMUP_FILE, name, signatures, described["image_size"])
            write_checksums(folder)
            # Before the version: who starts a server on it finds them there.
            kept.extend(write_server_files(folder.parent, name, tf.__version__))
            progress.update(note="files beside it written")

        folder = publish(export_dir, version, write)
        progress.update(note="version published")
    return Exported(folder, described, kept)


def _save(module: tf.Module, folder: Path, signatures: Mapping[str, Any]) -> None:
    try:
        tf.saved_model.save(module, str(folder), signatures=dict(signatures))
    except (tf.errors.OpError, OSError) as error:
        raise RunError(f"cannot write the model into {folder}: {error}") from error
