"""Trains face-attribute models whose features hide a private label, and measures what leaks.

The names below are loaded on first use, so that importing the package does not load TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.config import Config

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy import DPSGD, DPAdam
    from tf_mtl_privacy.reporting.audit_run import audit_run
    from tf_mtl_privacy.reporting.evaluate_run import evaluate_run
    from tf_mtl_privacy.training.fit import fit
    from tf_mtl_privacy.training.saved_run import load_run

__version__ = "0.1.0"
__all__ = [
    "DPSGD",
    "Config",
    "DPAdam",
    "__version__",
    "audit_run",
    "evaluate_run",
    "fit",
    "load_run",
]

# Name -> its module.
_LAZY = {
    "DPAdam": "privacy",
    "DPSGD": "privacy",
    "audit_run": "reporting.audit_run",
    "evaluate_run": "reporting.evaluate_run",
    "fit": "training.fit",
    "load_run": "training.saved_run",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
