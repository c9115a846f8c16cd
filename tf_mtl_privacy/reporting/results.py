"""The whole of results.json. docs/results-schema.md says what each key means.

What took information out of the features of a run, as results.json has it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.evaluation.schema import RESULTS_VERSION, Results
from tf_mtl_privacy.privacy.accounting.events import capacity_bits
from tf_mtl_privacy.reporting.reconcile_probes import leakage


def removal_summary(config: Config) -> dict[str, Any]:
    """`removal` of results.json: what was in force, and the bound that noise gives.

    Returns:
        `mask`, `feature_noise`, `erasure`, `erasure_labels` (None without erasure), `entries` (d,
        numbers in the features of a picture) and `capacity_bits`, the most that one draw of the
        features can say about its picture, in bits; None without noise, where nothing bounds it.
    """
    removal, model = config.removal_in_force, config.model
    cells = (config.data.image_size // model.feature_stride) ** 2
    # The pixel path adds three colours, and whether a pixel is covered.
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


NO_EPSILON = "no accounting has been done for this run"


def build_results(
    config: Config,
    status: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    evaluated_on: Mapping[str, Any],
    environment: Mapping[str, Any],
    audit: Mapping[str, Any] | None = None,
    others: Sequence[Mapping[str, Any]] = (),
) -> Results:
    """Puts a run's result together, `privacy.leakage` included.

    Args:
        config: the run's configuration.
        status: how training went: `gates`, `stop_rule`, `training`, `dp`; what is absent is null.
        evaluation: see `evaluation.summary.evaluation_summary`.
        evaluated_on: `dataset`, `split`, `data_fingerprint`, `changed`, `label_note`, `notes`.
        environment: see `reporting.environment.environment`.
        audit: the content of audit.json of the same weights, or None.
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


def _without_statements(dp: Mapping[str, Any] | None) -> dict[str, Any]:
    """`dp` without tensorflow-privacy's long statements, which stand in `privacy.txt`."""
    if not dp:
        return {}
    phases = {
        name: {key: value for key, value in part.items() if key != "statement"}
        for name, part in (dp.get("phases") or {}).items()
    }
    return {**dp, "phases": phases}
