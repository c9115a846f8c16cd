"""The registry of commands."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from tf_mtl_privacy.cli import (
    accounting,
    audit,
    evaluate,
    export,
    predict,
    prepare,
    report,
    serve,
    train,
)
from tf_mtl_privacy.cli.options import Parsed
from tf_mtl_privacy.config import section_types

_ALL_SECTIONS = tuple(section_types())


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        summary: its purpose, in one line.
        options: the dataclass of its own options.
        main: runs it; returns the exit code, or None for 0. It imports TensorFlow itself (not at
            the top of its module), so that help and wrong flags answer at once.
        sections: configuration sections whose options are flags of the command, too.
        positional: the option that takes the arguments without a flag, or None.
        reads_run: whether its configuration is the one saved in --run_dir.
    """

    summary: str
    options: Any
    main: Callable[[Parsed], int | None]
    sections: tuple[str, ...] = ()
    positional: str | None = None
    reads_run: bool = False


COMMANDS = {
    "prepare": Command(
        "Decodes, crops and resizes a data set once, into a memory-mapped store.",
        prepare.PrepareOptions,
        prepare.main,
        _ALL_SECTIONS,
    ),
    "train": Command(
        "Trains one of the four models, or resumes a run, and evaluates it.",
        train.TrainOptions,
        train.main,
        _ALL_SECTIONS,
    ),
    "evaluate": Command(
        "Evaluates a trained run and writes its results.json.",
        evaluate.EvaluateOptions,
        evaluate.main,
        ("data",),
        reads_run=True,
    ),
    "predict": Command(
        "Writes the predicted attributes of image files, and restored images.",
        predict.PredictOptions,
        predict.main,
        positional="input",
        reads_run=True,
    ),
    "audit": Command(
        "Attacks a finished run and writes audit.json; exits with 3 if a privacy claim is "
        "contradicted.",
        audit.AuditOptions,
        audit.main,
        ("data",),
        reads_run=True,
    ),
    "report": Command(
        "Writes the report of a finished run, or compares runs in one table.",
        report.ReportOptions,
        report.main,
    ),
    "export": Command(
        "Exports a trained run as a model version that TensorFlow Serving loads.",
        export.ExportOptions,
        export.main,
        reads_run=True,
    ),
    "serve": Command(
        "Serves an exported model on this machine, as a stand-in for TensorFlow Serving.",
        serve.ServeOptions,
        serve.main,
    ),
    "accounting": Command(
        "Computes epsilon from noise or noise from epsilon, with a table over steps.",
        accounting.AccountingOptions,
        accounting.main,
    ),
}
