"""On what a result was made: versions, hardware, commit."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("tensorflow", "keras", "tensorflow_privacy", "numpy")


def environment() -> dict[str, Any]:
    """`{"versions", "hardware", "commit"}` of this process, ready for JSON."""
    return {"versions": versions(), "hardware": hardware(), "commit": commit()}


def versions() -> dict[str, str | None]:
    """Versions of Python, of this package and of what it computes with; None where unknown."""
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
    """`{"hash", "dirty"}` of the package's git checkout, or None where it runs from no checkout.

    Args:
        checkout: the folder to ask; by default the one that holds the package.
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
