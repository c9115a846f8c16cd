"""Old import path, kept until the commands and experiments import the new one."""

from tf_mtl_privacy.evaluation.schema import read_audit, read_results
from tf_mtl_privacy.reporting.runs import DECIBEL, RATE, SOURCES, figure_text, run_figures, spread

__all__ = [
    "DECIBEL",
    "RATE",
    "SOURCES",
    "figure_text",
    "read_audit",
    "read_results",
    "run_figures",
    "spread",
]
