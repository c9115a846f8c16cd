"""Reads what a report needs out of a run folder."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tf_mtl_privacy.config import AUDIT_FILE, METRICS_FILE, RESULTS_FILE, DataConfig
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.schema import Results, read_audit, read_results
from tf_mtl_privacy.reporting.model_table import EVERYTHING, MODELS
from tf_mtl_privacy.reporting.run_figures import (
    RunFigures,
    run_figures,
)
from tf_mtl_privacy.reporting.run_files import picture_names


class ReportRun(NamedTuple):
    """A finished run, as far as a report reads it.

    Attributes:
        folder: as it was given.
        results: the content of results.json.
        figures: those by which runs are compared.
        audit: the content of audit.json, None where there is none.
        metrics: the lines of metrics.jsonl, one per epoch.
        restored: the sheet of restored faces (PNG), None where there is none.
        regions: the sheet of sensitive regions, likewise.
        lfw: the content of its result on LFW, None where there is none.
    """

    folder: Path
    results: Mapping[str, Any]
    figures: RunFigures
    audit: Mapping[str, Any] | None
    metrics: list[dict[str, Any]]
    restored: bytes | None
    regions: bytes | None
    lfw: Mapping[str, Any] | None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def quoted(self) -> str:
        """The folder as a shell takes it."""
        return shlex.quote(str(self.folder))

    @property
    def model(self) -> str:
        """A key of `model_runs.MODELS`."""
        everything = (self.results.get("dp") or {}).get("scope") == "all"
        return EVERYTHING if everything else str(self.results["model"])

    @property
    def title(self) -> str:
        """The model's name in the paper."""
        return MODELS[self.model]

    @property
    def dataset(self) -> str:
        """Where its pictures come from."""
        return str((self.results.get("evaluated_on") or {}).get("dataset") or "unknown data")

    @property
    def of_nobody(self) -> bool:
        """Whether its pictures are drawn."""
        return self.dataset == DataConfig().dataset


def read_run(run_dir: str | os.PathLike[str], flag: str = "run_dir") -> ReportRun:
    """Reads a finished run.

    Raises:
        UsageError: there is no such folder.
        RunError: it has no results.json, or one of its files is damaged or of another version.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise UsageError(f"--{flag}={run_dir}: no such folder; give that of a finished run")
    if not (folder / RESULTS_FILE).exists():
        raise RunError(
            f"{folder} has no {RESULTS_FILE}: train it to the end, or run python -m "
            f"tf_mtl_privacy.evaluate --run_dir={folder}"
        )
    results = read_results(folder / RESULTS_FILE)
    if results.get("model") not in MODELS:
        raise RunError(
            f"{folder / RESULTS_FILE}: model is {results.get('model')!r}; evaluate it again"
        )
    audit = read_audit(folder / AUDIT_FILE)
    restored, regions = picture_names(RESULTS_FILE)
    return ReportRun(
        folder,
        results,
        run_figures(results, audit),
        audit,
        _metrics(folder / METRICS_FILE),
        _bytes(folder / restored),
        _bytes(folder / regions),
        _lfw(folder),
    )


def command(verb: str, run: ReportRun, *flags: str) -> str:
    """A command on the run, to be copied."""
    return " ".join((f"python -m tf_mtl_privacy.{verb} --run_dir={run.quoted}", *flags))


def _metrics(path: Path) -> list[dict[str, Any]]:
    """Its lines; an unfinished last one, which a kill leaves, is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _lfw(folder: Path) -> Results | None:
    """The newest result on LFW."""
    paths = sorted(folder.glob("results_lfw*.json"), key=lambda path: path.stat().st_mtime)
    return read_results(paths[-1]) if paths else None
