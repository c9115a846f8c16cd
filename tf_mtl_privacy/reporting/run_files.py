"""What lies in a run folder, in words."""

from __future__ import annotations

import os
from pathlib import Path

from tf_mtl_privacy.config import CONFIG_FILE, METRICS_FILE, RESULTS_FILE
from tf_mtl_privacy.reporting.privacy_text import STATEMENT_FILE

KNOWN = {
    CONFIG_FILE: "the configuration; --config=FILE starts such a run again",
    STATEMENT_FILE: "what is claimed about privacy, with tensorflow-privacy's statement",
    METRICS_FILE: "figures of every epoch, one line each",
    "tensorboard": "curves, for tensorboard --logdir",
    "report.html": "an earlier report; python -m tf_mtl_privacy.report writes it anew",
    "predictions.csv": "attributes of your pictures",
}


def run_files(run_dir: str | os.PathLike[str], results_name: str = RESULTS_FILE) -> dict[str, str]:
    """Path -> what is in it, for the known files that the run folder has.

    Args:
        run_dir: the run's folder.
        results_name: the result file that has just been written there.
    """
    folder = Path(run_dir)
    restored, regions = picture_names(results_name)
    named = {
        results_name: "every figure above, and more",
        restored: "faces, and below each what is restored of it",
        regions: "faces, below each what is marked in it, what the encoder sees, what is restored",
        **KNOWN,
    }
    return {str(folder / name): what for name, what in named.items() if (folder / name).exists()}


def picture_names(results_name: str) -> tuple[str, str]:
    """Names of the two sheets of pictures beside a result file: restored faces, regions."""
    stem = Path(results_name).stem
    restored, regions = (stem.replace("results", name, 1) for name in ("restored", "regions"))
    return f"{restored}.png", f"{regions}.png"
