"""What each command takes besides the configuration: its own options, with defaults and ranges."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_mtl_privacy.config import section_types
from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError

CONFIG_FILE = "config.json"
DEFAULT_RUN_DIR = "runs/default"
_ALL_SECTIONS = tuple(section_types())


@dataclasses.dataclass(frozen=True)
class CommonOptions:
    """Options of every command."""

    threads: int = option(0, "Threads of TensorFlow's operations; 0 means one per core.", low=0)
    debug: bool = option(False, "Show the traceback of an error.")

    def __post_init__(self) -> None:
        check_options(self)
        for name in ("run_dir", "output", "restored_dir"):
            value = getattr(self, name, None)
            if value is not None and value != value.strip():
                raise UsageError(f"--{name}={value!r}: expected a path without blanks around it")
        if getattr(self, "run_dir", None) == "":
            raise UsageError("--run_dir=: expected a folder")


@dataclasses.dataclass(frozen=True)
class PrepareOptions(CommonOptions):
    """Options of `prepare`."""

    config: str = option("", "A saved config.json to start from; flags override it.")
    force: bool = option(False, "Prepare again even if the store is already there.")
    workers: int = option(0, "Threads that decode images; 0 means one per core.", low=0)


@dataclasses.dataclass(frozen=True)
class TrainOptions(CommonOptions):
    """Options of `train`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the run; an unfinished run continues.")
    config: str = option("", "A saved config.json to start from; flags override it.")
    log_images: bool = option(
        False,
        "Write pictures of real people to TensorBoard; synthetic faces are always written.",
    )


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(CommonOptions):
    """Options of `evaluate`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the trained run.")
    split: str = option("test", "Rows to evaluate on.", choices=("train", "validation", "test"))


@dataclasses.dataclass(frozen=True)
class PredictOptions(CommonOptions):
    """Options of `predict`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the trained run.")
    input: tuple[str, ...] = option(
        (), "An image file or a folder of them; may be repeated, or given without --input."
    )
    output: str = option(
        "", "Table to write, .csv or .json; empty means predictions.csv in the run folder."
    )
    restored_dir: str = option("", "Folder for the restored images; empty means none are written.")


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
}
