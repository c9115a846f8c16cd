"""Differential privacy: optimizers, accounting. Importing this loads no TensorFlow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy.guards import assert_rows_independent
    from tf_mtl_privacy.privacy.optimizer import DPSGD, DPAdam

__all__ = ["DPSGD", "DPAdam", "assert_rows_independent"]


def __getattr__(name: str) -> Any:
    """Loads the optimizers, and TensorFlow with them, when they are first asked for."""
    if name in ("DPAdam", "DPSGD"):
        from tf_mtl_privacy.privacy import optimizer

        return getattr(optimizer, name)
    if name == "assert_rows_independent":
        from tf_mtl_privacy.privacy.guards import assert_rows_independent

        return assert_rows_independent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
