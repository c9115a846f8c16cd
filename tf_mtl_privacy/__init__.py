"""Private multi-task face-attribute recognition: train, restore, and measure what leaks.

`fit` and `load_run` are loaded on first use, so that importing a part that needs no TensorFlow
stays fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.config import Config

if TYPE_CHECKING:
    from tf_mtl_privacy.training.fit import fit
    from tf_mtl_privacy.training.saved_run import load_run

__version__ = "0.1.0"
__all__ = ["Config", "__version__", "fit", "load_run"]


def __getattr__(name: str) -> Any:
    if name == "fit":
        from tf_mtl_privacy.training.fit import fit

        return fit
    if name == "load_run":
        from tf_mtl_privacy.training.saved_run import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
