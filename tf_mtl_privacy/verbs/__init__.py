"""What each command takes besides the configuration: its own options, with defaults and ranges."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_mtl_privacy.config import section_types
from tf_mtl_privacy.verbs.accounting import AccountingOptions
from tf_mtl_privacy.verbs.audit import AuditOptions
from tf_mtl_privacy.verbs.export import ExportOptions
from tf_mtl_privacy.verbs.report import ReportOptions
from tf_mtl_privacy.verbs.serve import ServeOptions
from tf_mtl_privacy.verbs.training import (
    EvaluateOptions,
    PredictOptions,
    PrepareOptions,
    TrainOptions,
)

_ALL_SECTIONS = tuple(section_types())


@dataclasses.dataclass(frozen=True)
class Verb:
    """One command.

    Attributes:
        summary: what it does, in one line.
        options: the dataclass of its own options.
        sections: configuration sections whose options are its flags too.
        positional: the option that takes the arguments without a flag, or None.
        reads_run: whether its configuration is the one saved in --run_dir.
    """

    summary: str
    options: Any
    sections: tuple[str, ...] = ()
    positional: str | None = None
    reads_run: bool = False


VERBS = {
    "prepare": Verb(
        "Decodes, crops and resizes a data set once, into a memory-mapped store.",
        PrepareOptions,
        _ALL_SECTIONS,
    ),
    "train": Verb(
        "Trains one of the four models, or continues a run, and evaluates it.",
        TrainOptions,
        _ALL_SECTIONS,
    ),
    "evaluate": Verb(
        "Evaluates a trained run and writes its results.json.",
        EvaluateOptions,
        ("data",),
        reads_run=True,
    ),
    "predict": Verb(
        "Writes the attributes of image files, and restored images.",
        PredictOptions,
        positional="input",
        reads_run=True,
    ),
    "audit": Verb(
        "Attacks a finished run and writes audit.json; ends with 3 where a claim is contradicted.",
        AuditOptions,
        ("data",),
        reads_run=True,
    ),
    "serve": Verb(
        "Serves an exported model on this machine, standing in for TensorFlow Serving.",
        ServeOptions,
    ),
    "export": Verb(
        "Writes a trained run as a version that TensorFlow Serving loads.",
        ExportOptions,
        reads_run=True,
    ),
    "accounting": Verb(
        "Computes epsilon from noise or noise from epsilon, with a table over steps.",
        AccountingOptions,
    ),
    "report": Verb(
        "Writes the report of a finished run, or compares runs in one table.", ReportOptions
    ),
}
