"""Builds results.json (docs/results-schema.md), with versions, hardware and commit."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, cast

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.evaluation.schema import RESULTS_VERSION, Audit, Results
from tf_mtl_privacy.privacy.accounting.events import capacity_bits
from tf_mtl_privacy.reporting.reconcile_probes import leakage

NO_EPSILON = "no accounting has been done for this run"
PACKAGES = ("tensorflow", "keras", "tensorflow_privacy", "numpy")


def build_results(
    config: Config,
    status: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    evaluated_on: Mapping[str, Any],
    environment: Mapping[str, Any],
    audit: Audit | None = None,
    others: Sequence[Mapping[str, Any]] = (),
) -> Results:
    """Builds a run's result, `privacy.leakage` included.

    Args:
        config: the run's configuration.
        status: outcome of training: `gates`, `stop_rule`, `training`, `dp`; absent parts are null.
        evaluation: see `evaluation.summary.evaluation_summary`.
        evaluated_on: `dataset`, `split`, `data_fingerprint`, `changed`, `label_note`, `notes`.
        environment: see `environment`.
        audit: content of audit.json of the same weights, or None.
        others: further measurements of the same weights, see `reconcile_probes.leakage`.
    """
    results = {
        "schema_version": RESULTS_VERSION,
        "model": config.train.model,
        "seed": config.train.seed,
        **environment,
        "config": config.to_dict(),
        "evaluated_on": dict(evaluated_on),
        "training": status.get("training"),
        "removal": removal_summary(config),
        "gates": status.get("gates") or {},
        "stop_rule": status.get("stop_rule"),
        "dp": _without_statements(status.get("dp"))
        or {"epsilon_pld": None, "epsilon_rdp": None, "reason": NO_EPSILON},
        **evaluation,
    }
    if "privacy" in evaluation:
        found = leakage(results, audit, others)
        results["privacy"] = {**evaluation["privacy"], "leakage": found}
    return cast(Results, results)


def removal_summary(config: Config) -> dict[str, Any]:
    """Builds `removal` of results.json: the methods in force, and the bound that noise gives.

    Returns:
        `mask`, `feature_noise`, `erasure`, `erasure_labels` (None without erasure), `entries` (d,
        numbers in the features of an image) and `capacity_bits`: the mutual information, in bits,
        that one draw of the features has with its image at most; None (no bound) without noise.
    """
    removal, model = config.removal_in_force, config.model
    cells = (config.data.image_size // model.feature_stride) ** 2
    # The pixel path adds three colour channels and, with a mask, the covered flag.
    carried = (3 + removal.has_mask) * model.feature_stride**2 if model.pixel_path else 0
    entries = cells * (model.feature_channels + carried)
    bits = capacity_bits(entries, removal.feature_noise)
    # Its layers load TensorFlow, which other readers of this module do not need.
    from tf_mtl_privacy.removal import record

    return {
        **record(config),
        "entries": entries,
        "capacity_bits": bits if math.isfinite(bits) else None,
    }


def environment() -> dict[str, Any]:
    """`{"versions", "hardware", "commit"}` of this process, ready for JSON."""
    return {"versions": versions(), "hardware": hardware(), "commit": commit()}


def versions() -> dict[str, str | None]:
    """Versions of Python, of this package and its main dependencies; None if unknown."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name in PACKAGES:
        found[name] = _version(name)
    found["package"] = _version("tf_mtl_privacy")
    return found


def hardware() -> dict[str, Any]:
    """`cpu` (model), `cores` this process may use, `memory_gib`, `accelerators` (names)."""
    import tensorflow as tf

    devices = [
        tf.config.experimental.get_device_details(device).get("device_name", device.name)
        for device in tf.config.list_physical_devices()
        if device.device_type != "CPU"
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory, 1),
        "accelerators": devices,
    }


def commit(checkout: Path | None = None) -> dict[str, Any] | None:
    """`{"hash", "dirty"}` of the package's git checkout, or None outside a checkout.

    Args:
        checkout: the folder; by default the one that holds the package.
    """
    folder = checkout or Path(__file__).resolve().parents[2]
    # Without this, an installed package would report the commit of whatever encloses it.
    if not (folder / ".git").exists():
        return None
    head = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain")
    return None if head is None else {"hash": head, "dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _without_statements(dp: Mapping[str, Any] | None) -> dict[str, Any]:
    """`dp` without tensorflow-privacy's long statements, which are in `privacy.txt`."""
    if not dp:
        return {}
    phases = {
        name: {key: value for key, value in part.items() if key != "statement"}
        for name, part in (dp.get("phases") or {}).items()
    }
    return {**dp, "phases": phases}
