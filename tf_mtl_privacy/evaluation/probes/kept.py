"""What attackers read is kept as they finish, so that hours of them can be interrupted."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.evaluation.probes.attack import Reading
from tf_mtl_privacy.files import private_dir, read_json, write_json


class KeptReadings:
    """A file of readings; one of other weights, rows, effort or code is begun anew.

    Args:
        path: the file, `.json`. Its folder is made when there is something to keep.
        about: what readings must agree in, JSON.

    Attributes:
        seconds: what the readings that were found had taken when they were made.
    """

    def __init__(self, path: Path, about: Mapping[str, Any]) -> None:
        self._path, self._about = path, dict(about)
        self._readings: dict[str, Any] = {}
        self.seconds = 0.0
        if path.exists():
            found = read_json(path)
            if not isinstance(found, dict) or "readings" not in found:
                raise RunError(f"{path}: not a file of attackers' readings; remove it")
            if found.get("about") == self._about:
                self._readings = found["readings"]

    def __call__(self, key: str, make: Callable[[], Reading]) -> Reading:
        """The reading that is kept under a name; made, and kept, where there is none.

        Raises:
            RunError: the file cannot be written.
        """
        if key in self._readings:
            kept = self._readings[key]
            self.seconds += kept["seconds"]
            return Reading(kept["name"], kept["validation"], kept["test"])
        start = time.monotonic()
        reading = make()
        seconds = time.monotonic() - start
        self._readings[key] = {**dataclasses.asdict(reading), "seconds": seconds}
        private_dir(self._path.parent)
        write_json(self._path, {"about": self._about, "readings": self._readings})
        return reading
