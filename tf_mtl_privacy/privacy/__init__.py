"""Differential privacy for Keras 3: optimizers, clipping, sampling, accounting and a ledger.

    optimizer = DPAdam(model, l2_norm_clip=1.0, noise_multiplier=1.0)
    optimizer.minimize(x, lambda outputs: per_example_loss(y, outputs))

- `optimizer`: `DPAdam` and `DPSGD`, on top of `clipping/` (three backends), `noise` and `guards`
  (settings and models that DP-SGD does not cover).
- `batch_selection`: Poisson sampling; `keys`: the secret keys of sampling and noise.
- `accounting/`: epsilon, noise for a target epsilon, statements; `ledger`: the record of updates on
  disk; `noise_record`: withdraws epsilons that earlier versions stated for other noise.

Accounting, ledger and sampling load no TensorFlow, and neither does importing this package.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tf_mtl_privacy.privacy.clipping.rules import register_layer_rule
    from tf_mtl_privacy.privacy.guards import assert_rows_independent
    from tf_mtl_privacy.privacy.optimizer import DPSGD, DPAdam

__all__ = ["DPSGD", "DPAdam", "assert_rows_independent", "register_layer_rule"]

_MODULES = {
    "DPAdam": "optimizer",
    "DPSGD": "optimizer",
    "assert_rows_independent": "guards",
    "register_layer_rule": "clipping.rules",
}


def __getattr__(name: str) -> Any:
    """Loads the public names, and TensorFlow with them, on first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
