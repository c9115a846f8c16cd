"""How long a thorough audit of a run will take, from what its training took."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.config import RESULTS_FILE
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import read_json

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.training.saved_run import SavedRun


def expected_seconds(run: SavedRun, dataset: Dataset, shadows: int, rows: int) -> float | None:
    """Seconds, a rough guess from below; None where the run does not know its own.

    A pass of one row through what is attacked is taken to cost what it cost in the run's first
    phase, which trained encoder and classifier. Fresh attackers are taken to cost what the fast
    ones of results.json did, times their number, restarts, rows and passes.

    Args:
        run: the run.
        dataset: its data.
        shadows: how many shadow models are trained.
        rows: most members and non-members; 0 means the setting's.
    """
    from tf_mtl_privacy.evaluation.inversion import SETTINGS, epochs
    from tf_mtl_privacy.evaluation.membership.budget import EFFORTS
    from tf_mtl_privacy.evaluation.probes.saved import networks

    training = run.status.get("training") or {}
    phase = (training.get("phases") or {}).get("business")
    if not phase or not phase.get("steps") or not phase.get("seconds"):
        return None
    per_row = phase["seconds"] / (phase["steps"] * run.config.train.batch_size)
    effort, inversion = EFFORTS["thorough"], SETTINGS["thorough"]
    members = min(rows or effort.rows, len(dataset.rows["train"]))
    heads = min(members, effort.head_rows) * effort.heads * effort.head_epochs
    passes = 2 * members + len(networks(run)) * heads + inversion.rows * epochs("thorough")
    attackers = _attackers(run, len(dataset.rows["train"]))
    return passes * per_row + shadows * (training.get("seconds") or 0.0) + attackers


def _attackers(run: SavedRun, train_rows: int) -> float:
    """Seconds of thorough fresh attackers; 0 where they are there, or fast ones never ran.

    Where faces are not drawn, they learn from the training rows and no more.
    """
    from tf_mtl_privacy.evaluation.probes.budget import FAST, THOROUGH
    from tf_mtl_privacy.evaluation.probes.run import count_attackers
    from tf_mtl_privacy.evaluation.probes.saved import networks

    try:
        probe: Any = read_json(Path(run.run_dir) / RESULTS_FILE)["privacy"]["probe"]
    except (RunError, KeyError, TypeError):
        return 0.0
    if not probe or probe["setting"] == "thorough":
        return 0.0
    # Those that ran then: the setting may have had others.
    parts = [part for part in probe.values() if isinstance(part, dict)]
    kinds = [kind for part in parts for kind in part.get("by_rows", {"": part}).values()]
    ran = sum(len(kind.get("attackers", ())) for kind in kinds)
    most = math.inf if run.config.data.dataset == "synthetic_faces" else train_rows
    passes = [min(setting.rows, most) * setting.epochs for setting in (FAST, THOROUGH)]
    larger = count_attackers(networks(run), THOROUGH) * THOROUGH.restarts / max(ran, 1)
    return float(probe["seconds"]) * larger * passes[1] / passes[0]
