"""Keeps readings of attackers as they finish: an interrupted call goes on, and none is forgotten.

Two kinds of files lie in the folder `audit` of a run: `attackers-<digest>.json` with the readings
of one call of the attackers (`KeptReadings`), and `checks.json` with those of the checks during
training (`keep_check`). `strongest_kept` reads both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from tf_mtl_privacy.config import AUDIT_FOLDER
from tf_mtl_privacy.data.fingerprints import published
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.evaluation.probes.attack import Reading
from tf_mtl_privacy.evaluation.probes.bounds import Attack, bound, upper_end
from tf_mtl_privacy.evaluation.probes.rows import AttackRows, Labelled
from tf_mtl_privacy.evaluation.probes.summary import KINDS, OF_RUN
from tf_mtl_privacy.files import private_dir, read_json, write_json
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.removal.noise import FeatureNoise

CHECKS_FILE = "checks.json"
_PATTERN = "attackers-*.json"
_LIBRARIES = ("keras", "numpy", "scikit-learn", "tensorflow")
_RATES = ("accuracy", "balanced_accuracy")
_INTERVALS = ("ci95", "balanced_ci95")
_PACKAGE = Path(__file__).parents[2]
# Sources on which a reading depends: attackers, scores, networks, and how they get a picture.
_SOURCES = ("evaluation/probes/*.py", "evaluation/*.py", "models/**/*.py", "data/preprocess*.py")


class KeptReadings:
    """Readings of one attack in a file of their own, whose name says what they must agree in.

    Args:
        folder: where the file is; made when there is something to keep. None for no file.
        about: what readings must agree in, JSON: weights, rows, effort, code.

    Attributes:
        path: the file, `attackers-<digest of about>.json`, or None.
        made: readings that were made.
        found: readings that were there.
        seconds: time that those that were there had taken.

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
        """Returns the reading that is kept under a name; makes and keeps it where there is none.

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


def keep_check(folder: Path, weights: str, readings: Mapping[str, Reading]) -> None:
    """Adds what a check during training read to `checks.json`; later checks replace earlier ones.

    Args:
        folder: the folder `audit` of the run.
        weights: `weights_digest` of the networks that were checked.
        readings: key, as `KeptReadings` has it -> reading; figures are of validation rows.

    Raises:
        RunError: the file is damaged or cannot be written.
    """
    path = private_dir(folder) / CHECKS_FILE
    known = _checks(path)
    known[weights] = {key: dataclasses.asdict(reading) for key, reading in readings.items()}
    write_json(path, {"checks": known})


def strongest_kept(
    run_dir: Path, weights: str, test: Collection[str] | None = None
) -> dict[str, dict[str, Any]]:
    """Returns, for each target, the highest reading in any kept file of a run's weights.

    It reads the files of all settings, of interrupted calls and of earlier versions of the
    attackers, and the check during training of the same weights, so that no later and weaker
    attack hides what an earlier one found.

    Args:
        run_dir: the run's folder.
        weights: `weights_digest` of its networks.
        test: digests of the test rows (`part_digest`; earlier versions kept it without the key);
            None takes the readings on the run's own test rows.

    Returns:
        Target (`summary.OF_RUN`) -> `strongest` (`name` and figures as for a target), `trained_on`
        and `rows` (None where not known), `split` (`test`; `validation` for the check during
        training), `setting`, `readings` (how many there are) and `bound` (`bounds.bound` over all
        of them). Highest means by the upper end of an interval; `attackers` has those that read
        most (a reading on few rows may have a higher end and a lower figure). Targets without a
        reading are left out; the mapping is empty where nothing is kept.

    Raises:
        RunError: a file is damaged.
    """
    folder = Path(run_dir) / AUDIT_FOLDER
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob(_PATTERN)):
        about, readings = _about_of(path), _load(path)
        same = about.get("test") in test if test else about.get("is_own", True)
        if about.get("weights") == weights and same:
            setting = (about.get("setting") or {}).get("name")
            for key, (reading, _) in readings.items():
                _collect(found, key, reading, "test", setting)
    if test is None:
        for key, kept in _checks(folder / CHECKS_FILE).get(weights, {}).items():
            _collect(found, key, _checked(folder / CHECKS_FILE, kept), "validation", "check")
    return {target: _highest(found[target]) for target in OF_RUN if target in found}


def _collect(
    found: dict[str, list[dict[str, Any]]], key: str, reading: Reading, split: str, setting: Any
) -> None:
    parts = key.split("/")
    part: dict[str, Any] = {
        "strongest": {"name": reading.name, **reading.test},
        "trained_on": parts[1] if parts[1] in KINDS else None,
        "rows": reading.rows or None,
        "split": split,
        "setting": setting,
    }
    found.setdefault(parts[0], []).append(part)


def _highest(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    attacks = [Attack(p["strongest"]["name"], p["trained_on"] or "", p["strongest"]) for p in parts]
    best = max(parts, key=lambda part: upper_end(part["strongest"]))
    most = [max(parts, key=lambda part: part["strongest"][rate]) for rate in _RATES]
    shown = (*_RATES, *_INTERVALS, "n")
    figures = [
        {k: part["strongest"][k] for k in shown if k in part["strongest"]}
        | {"trained_on": part["trained_on"], "rows": part["rows"]}
        for part in most
    ]
    named = zip(most, figures, strict=True)
    read = {part["strongest"]["name"]: found for part, found in named}
    return {**best, "readings": len(parts), "attackers": read, "bound": bound(attacks)}


def weights_digest(bundles: Mapping[str, Bundle]) -> str:
    """Returns 16 hex digits that change with any weight.

    The state of the noise generator in an encoder (`FeatureNoise.draws`) is no weight: during
    training it counts, and in what is released it is 0.
    """
    digest = hashlib.sha256()
    for name, bundle in sorted(bundles.items()):
        for part, model in bundle.items():
            digest.update(f"{name}/{part}".encode())
            layers = getattr(model, "layers", [])
            draws = {id(found.draws) for found in layers if isinstance(found, FeatureNoise)}
            for variable in model.weights:
                values = np.ascontiguousarray(variable.numpy())
                digest.update((values * 0 if id(variable) in draws else values).tobytes())
    return digest.hexdigest()[:16]


def rows_digest(rows: AttackRows | str, key: bytes | None) -> str:
    """Returns a digest that changes with any picture, label or part; the text without rows.

    Args:
        rows: of an attack, or why there are none.
        key: `Dataset.key`. A plain hash would let whoever guesses a row check the guess.
    """
    if isinstance(rows, str):
        return rows
    return published(_digest(values for part in rows for values in part), key)


def part_digest(part: Labelled, key: bytes | None) -> str:
    """Returns a digest that changes with any picture or label of one part; `rows_digest`."""
    return published(_digest(part), key)


def _digest(arrays: Iterable[np.ndarray[Any, Any]]) -> str:
    found = hashlib.sha256()
    for values in arrays:
        found.update(f"{values.dtype}{values.shape}".encode())
        found.update(values.tobytes())
    return found.hexdigest()[:16]


def code_digest() -> str:
    """16 hex digits that change with the sources of attackers and networks, and the libraries."""
    found = hashlib.sha256()
    for pattern in _SOURCES:
        for source in sorted(_PACKAGE.glob(pattern)):
            found.update(source.name.encode() + source.read_bytes())
    for name in _LIBRARIES:
        found.update(f"{name} {metadata.version(name)}".encode())
    return found.hexdigest()[:16]


def _about_of(path: Path) -> dict[str, Any]:
    found = read_json(path)
    about = found.get("about") if isinstance(found, dict) else None
    if not isinstance(about, dict):
        raise RunError(f"{path}: not a file of attackers' readings; remove it")
    return about


def _load(path: Path | None) -> dict[str, tuple[Reading, float]]:
    if path is None or not path.exists():
        return {}
    try:
        found = {key: _reading(kept) for key, kept in read_json(path)["readings"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: not a file of attackers' readings; remove it") from error
    return found


def _checks(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = read_json(path)
    checks = found.get("checks") if isinstance(found, dict) else None
    if not isinstance(checks, dict) or not all(isinstance(c, dict) for c in checks.values()):
        raise RunError(f"{path}: not a file of readings of the checks in training; remove it")
    return checks


def _checked(path: Path, kept: Mapping[str, Any]) -> Reading:
    try:
        return _reading({**kept, "seconds": 0.0})[0]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(
            f"{path}: not a file of readings of the checks in training; remove it"
        ) from error


def _reading(kept: Mapping[str, Any]) -> tuple[Reading, float]:
    test = dict(kept["test"])
    rates = [float(kept["validation"]), *(float(test[name]) for name in _RATES)]
    for name in _INTERVALS[: 1 + ("balanced_ci95" in test)]:
        low, high = (float(end) for end in test[name])
        rates += [low, high]
    seconds, rows = float(kept["seconds"]), int(kept.get("rows", 0))
    if not all(0 <= rate <= 1 for rate in rates) or seconds < 0 or rows < 0:
        raise ValueError(kept)
    starts = tuple(float(start) for start in kept.get("starts", ()))
    figures = {**test, "n": int(test["n"])}
    right = str(kept.get("right", ""))
    return Reading(str(kept["name"]), rates[0], figures, rows, right, starts), seconds
