"""Saves readings of attackers as they finish, and finds the highest saved one.

The folder `audit` of a run has two kinds of files: `attackers-<digest>.json` with the readings of
one attack (`KeptReadings`), and `checks.json` with those of the checks during training
(`keep_check`). `strongest_kept` reads both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from tf_mtl_privacy.config import AUDIT_FOLDER
from tf_mtl_privacy.data.fingerprints import published
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.evaluation import schema
from tf_mtl_privacy.evaluation.probes.attack import Reading
from tf_mtl_privacy.evaluation.probes.bounds import OF_RUN, Attack, bound, upper_end
from tf_mtl_privacy.evaluation.probes.data import AttackRows, Labelled
from tf_mtl_privacy.evaluation.probes.summary import KINDS
from tf_mtl_privacy.files import private_dir, read_json, write_json
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.removal.noise import FeatureNoise
from tf_mtl_privacy.types import Array

CHECKS_FILE = "checks.json"
_PATTERN = "attackers-*.json"
_LIBRARIES = ("keras", "numpy", "scikit-learn", "tensorflow")
_RATES: tuple[Literal["accuracy", "balanced_accuracy"], ...] = ("accuracy", "balanced_accuracy")
_INTERVALS = ("ci95", "balanced_ci95")
_PACKAGE = Path(__file__).parents[2]
# Sources on which a reading depends: attackers, scores, networks, preprocessing.
_SOURCES = (
    "evaluation/probes/*.py",
    "evaluation/*.py",
    "models/**/*.py",
    "removal/*.py",
    "data/preprocess*.py",
)
_DAMAGED = "not a file of attacker results; remove it"
_DAMAGED_CHECKS = "not a file of readings of the checks in training; remove it"


class KeptReadings:
    """Readings of one attack in a file named after a digest of what they must agree in.

    Args:
        folder: the file's folder, made when there is something to save. None for no file.
        about: everything that readings must agree in, as JSON: weights, rows, budget, code.

    Attributes:
        path: the file, `attackers-<digest of about>.json`, or None.
        made: number of new readings.
        found: number of readings taken from the file.
        seconds: time that those from the file had taken.

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
        """Returns the reading saved under a key; makes and saves it where there is none.

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
        saved = {k: {**dataclasses.asdict(r), "seconds": s} for k, (r, s) in self._readings.items()}
        write_json(path, {"about": self._about, "readings": saved})


def keep_check(folder: Path, weights: str, readings: Mapping[str, Reading]) -> None:
    """Saves the readings of a check during training; a later check of the same weights replaces it.

    Args:
        folder: the folder `audit` of the run.
        weights: `weights_digest` of the checked networks.
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
) -> dict[str, schema.KeptBest]:
    """Returns the highest saved reading of a run's weights, by target.

    It reads the files of all budgets, of interrupted attacks and of earlier versions, and the check
    during training, so that a later and weaker attack hides no earlier finding.

    Args:
        run_dir: the run's folder.
        weights: `weights_digest` of its networks.
        test: digests of the test rows (`part_digest`; earlier versions saved it without the key);
            None takes the readings on the run's own test rows.

    Returns:
        Target (`bounds.OF_RUN`) -> the reading with the highest upper bound; its
        `attackers` are those with the highest figures (a reading on few rows may have a higher end
        and a lower figure). `split` is "validation" for the check during training; `bound` is over
        all readings. Targets without a reading are left out.

    Raises:
        RunError: a file is damaged.
    """
    folder = Path(run_dir) / AUDIT_FOLDER
    readings: list[_Saved] = []
    for path in sorted(folder.glob(_PATTERN)):
        about, saved = _about_of(path), _load(path)
        same = about.get("test") in test if test else about.get("is_own", True)
        if about.get("weights") == weights and same:
            setting = (about.get("setting") or {}).get("name")
            readings += [_Saved(k, reading, "test", setting) for k, (reading, _) in saved.items()]
    if test is None:
        path = folder / CHECKS_FILE
        for key, check in _checks(path).get(weights, {}).items():
            readings.append(_Saved(key, _checked(path, check), "validation", "check"))
    targets = {reading.target for reading in readings}
    return {
        target: _highest([reading for reading in readings if reading.target == target])
        for target in OF_RUN
        if target in targets
    }


def weights_digest(bundles: Mapping[str, Bundle]) -> str:
    """Returns 16 hex digits that change with any weight.

    The state of the noise generator in an encoder (`FeatureNoise.draws`) is not a weight: it counts
    during training and is 0 in a release.
    """
    digest = hashlib.sha256()
    for name, bundle in sorted(bundles.items()):
        for part, model in bundle.items():
            digest.update(f"{name}/{part}".encode())
            layers = getattr(model, "layers", [])
            draws = {id(layer.draws) for layer in layers if isinstance(layer, FeatureNoise)}
            for variable in model.weights:
                values = np.ascontiguousarray(variable.numpy())
                digest.update((values * 0 if id(variable) in draws else values).tobytes())
    return digest.hexdigest()[:16]


def rows_digest(rows: AttackRows | str, key: bytes | None) -> str:
    """Returns a digest that changes with any picture or label; the reason itself without rows.

    Args:
        rows: rows of an attack, or the reason why there are none.
        key: `Dataset.key`. A plain hash would let anybody check a guess of a row.
    """
    if isinstance(rows, str):
        return rows
    return published(_digest(values for part in rows for values in part), key)


def part_digest(part: Labelled, key: bytes | None) -> str:
    """Returns a digest that changes with any picture or label of one part, see `rows_digest`."""
    return published(_digest(part), key)


def code_digest() -> str:
    """Returns 16 hex digits that change with the attackers' sources and the libraries."""
    digest = hashlib.sha256()
    for pattern in _SOURCES:
        for source in sorted(_PACKAGE.glob(pattern)):
            digest.update(source.name.encode() + source.read_bytes())
    for name in _LIBRARIES:
        digest.update(f"{name} {metadata.version(name)}".encode())
    return digest.hexdigest()[:16]


class _Saved(NamedTuple):
    """A saved reading; `key` is target, kind of rows, network, attacker and start."""

    key: str
    reading: Reading
    split: str
    setting: str | None

    @property
    def target(self) -> str:
        return self.key.split("/")[0]

    @property
    def trained_on(self) -> str | None:
        kind = self.key.split("/")[1]
        return kind if kind in KINDS else None

    @property
    def rows(self) -> int | None:
        return self.reading.rows or None


def _highest(readings: Sequence[_Saved]) -> schema.KeptBest:
    attacks = [Attack(r.reading.name, r.trained_on or "", r.reading.test) for r in readings]
    best = max(readings, key=lambda saved: upper_end(saved.reading.test))
    attackers = {}
    for rate in _RATES:
        top = max(readings, key=lambda saved: saved.reading.test[rate])
        figures = {
            name: top.reading.test[name]  # type: ignore[literal-required]
            for name in (*_RATES, *_INTERVALS, "n")
            if name in top.reading.test
        }
        attackers[top.reading.name] = cast(
            schema.KeptAttacker, {**figures, "trained_on": top.trained_on, "rows": top.rows}
        )
    return {
        "strongest": best.reading.named,
        "trained_on": best.trained_on,
        "rows": best.rows,
        "split": best.split,
        "setting": best.setting,
        "readings": len(readings),
        "attackers": attackers,
        "bound": bound(attacks),
    }


def _digest(arrays: Iterable[Array]) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(f"{values.dtype}{values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def _about_of(path: Path) -> dict[str, Any]:
    content = read_json(path)
    about = content.get("about") if isinstance(content, dict) else None
    if not isinstance(about, dict):
        raise RunError(f"{path}: {_DAMAGED}")
    return about


def _load(path: Path | None) -> dict[str, tuple[Reading, float]]:
    if path is None or not path.exists():
        return {}
    try:
        return {key: _reading(saved) for key, saved in read_json(path)["readings"].items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: {_DAMAGED}") from error


def _checks(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    content = read_json(path)
    checks = content.get("checks") if isinstance(content, dict) else None
    if not isinstance(checks, dict) or not all(isinstance(c, dict) for c in checks.values()):
        raise RunError(f"{path}: {_DAMAGED_CHECKS}")
    return checks


def _checked(path: Path, saved: Mapping[str, Any]) -> Reading:
    try:
        return _reading({**saved, "seconds": 0.0})[0]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: {_DAMAGED_CHECKS}") from error


def _reading(saved: Mapping[str, Any]) -> tuple[Reading, float]:
    """Returns a saved reading and its seconds, its attacker by its present name.

    Raises:
        ValueError: a rate, a time or a number of rows is out of range.
    """
    test = dict(saved["test"])
    rates = [float(saved["validation"]), *(float(test[name]) for name in _RATES)]
    for name in _INTERVALS[: 1 + ("balanced_ci95" in test)]:
        low, high = (float(end) for end in test[name])
        rates += [low, high]
    seconds, rows = float(saved["seconds"]), int(saved.get("rows", 0))
    if not all(0 <= rate <= 1 for rate in rates) or seconds < 0 or rows < 0:
        raise ValueError(saved)
    reading = Reading(
        schema.current_name(str(saved["name"])),
        rates[0],
        cast(schema.Reading, {**test, "n": int(test["n"])}),
        rows,
        str(saved.get("right", "")),
        tuple(float(start) for start in saved.get("starts", ())),
    )
    return reading, seconds
