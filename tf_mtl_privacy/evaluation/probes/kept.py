"""What attackers read is kept as they finish, so that hours of them can be interrupted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.evaluation.probes.attack import Reading
from tf_mtl_privacy.evaluation.probes.rows import AttackRows
from tf_mtl_privacy.files import private_dir, read_json, write_json

_LIBRARIES = ("keras", "numpy", "scikit-learn", "tensorflow")
_RATES = ("accuracy", "balanced_accuracy")


class KeptReadings:
    """Readings of one attack in a file of their own, whose name says what they must agree in.

    Args:
        folder: where the file is; made when there is something to keep. None for no file.
        about: what readings must agree in, JSON: weights, rows, effort, code.

    Attributes:
        path: the file, `attackers-<digest of about>.json`, or None.
        made: readings that were made.
        found: readings that were there.
        seconds: what those that were there had taken.

    Raises:
        RunError: the file is damaged.
    """

    def __init__(self, folder: Path | None, about: Mapping[str, Any]) -> None:
        text = json.dumps(about, sort_keys=True)
        name = f"attackers-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"
        self.path = None if folder is None else folder / name
        self._about, self._readings = dict(about), _load(self.path)
        self.made = self.found = 0
        self.seconds = 0.0

    def __call__(self, key: str, make: Callable[[], Reading]) -> Reading:
        """The reading that is kept under a name; made, and kept, where there is none.

        Raises:
            RunError: the file cannot be written.
        """
        if key in self._readings:
            reading, seconds = self._readings[key]
            self.found += 1
            self.seconds += seconds
            return reading
        start = time.monotonic()
        reading = make()
        self.made += 1
        self._readings[key] = reading, time.monotonic() - start
        if self.path is not None:
            self._write(self.path)
        return reading

    def _write(self, path: Path) -> None:
        private_dir(path.parent)
        kept = {k: {**dataclasses.asdict(r), "seconds": s} for k, (r, s) in self._readings.items()}
        write_json(path, {"about": self._about, "readings": kept})


def rows_digest(rows: AttackRows | str) -> str:
    """16 hex digits that change with any picture, label or part; the text itself without rows."""
    if isinstance(rows, str):
        return rows
    found = hashlib.sha256()
    for part in rows:
        for values in part:
            found.update(f"{values.dtype}{values.shape}".encode())
            found.update(values.tobytes())
    return found.hexdigest()[:16]


def code_digest() -> str:
    """16 hex digits that change with the attackers' sources and what they learn with."""
    found = hashlib.sha256()
    for source in sorted(Path(__file__).parent.glob("*.py")):
        found.update(source.name.encode() + source.read_bytes())
    for name in _LIBRARIES:
        found.update(f"{name} {metadata.version(name)}".encode())
    return found.hexdigest()[:16]


def _load(path: Path | None) -> dict[str, tuple[Reading, float]]:
    if path is None or not path.exists():
        return {}
    try:
        found = {key: _reading(kept) for key, kept in read_json(path)["readings"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: not a file of attackers' readings; remove it") from error
    return found


def _reading(kept: Mapping[str, Any]) -> tuple[Reading, float]:
    test = dict(kept["test"])
    rates = [float(kept["validation"]), *(float(test[name]) for name in _RATES)]
    rates += [float(bound) for bound in test["ci95"]]
    seconds = float(kept["seconds"])
    if len(rates) != 5 or not all(0 <= rate <= 1 for rate in rates) or seconds < 0:
        raise ValueError(kept)
    return Reading(str(kept["name"]), rates[0], {**test, "n": int(test["n"])}), seconds
