"""What each command takes besides the configuration: its own options, with defaults and ranges."""

from __future__ import annotations

import dataclasses
from typing import Any

from tf_mtl_privacy.config import section_types
from tf_mtl_privacy.config.options import check_options, option
from tf_mtl_privacy.errors import UsageError

DEFAULT_RUN_DIR, DEFAULT_TABLE_DIR = "runs/default", "runs/table"
_ALL_SECTIONS = tuple(section_types())
_PROBES = ("none", "fast", "thorough")
_PROBE_HELP = (
    "How hard fresh attackers try to read the private label from what the run gives away: 'fast' "
    "takes minutes on two cores, 'thorough' is for an audit."
)


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
    verify: bool = option(False, "Read the whole store and compare it with its checksum.")
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
    probe: str = option("fast", _PROBE_HELP, choices=_PROBES)


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(CommonOptions):
    """Options of `evaluate`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the trained run.")
    split: str = option("test", "Rows to evaluate on.", choices=("train", "validation", "test"))
    probe: str = option("none", _PROBE_HELP, choices=_PROBES)
    removal_off: str = option(
        "",
        "With --probe: folder of a run of the same data without any removal, whose results.json "
        "has fresh attackers' figures, to tell that attackers are strong enough.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.probe != "none" and self.split != "test":
            raise UsageError(
                f"--split={self.split}: fresh attackers (--probe={self.probe}) are tested on test "
                "rows; leave out one of the two"
            )
        if self.removal_off and self.probe == "none":
            raise UsageError(f"--removal_off={self.removal_off}: expected --probe=fast beside it")


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
class AccountingOptions(CommonOptions):
    """Options of `accounting`."""

    rows: int = option(0, "Rows (images) to train on.", low=0)
    batch_size: int = option(0, "Rows per step on average; needs --rows.", low=0)
    sampling_probability: float = option(
        0.0, "Each row's chance to be in a step's batch, instead of --batch_size.", low=0, high=1
    )
    epochs: float = option(0.0, "Passes over the rows, or give --steps.", low=0)
    steps: int = option(0, "Updates, or give --epochs.", low=0)
    noise_multiplier: float = option(
        0.0, "Noise standard deviation over clip norm: print its epsilon.", low=0
    )
    target_epsilon: float = option(0.0, "Print the noise for this epsilon.", low=0)
    delta: float = option(
        0.0, "Probability that epsilon does not bound; 0 means min(1e-5, 1/(2 rows)).", low=0
    )
    max_images_per_person: int = option(
        0, "Most images of one person, for a person's epsilon; 0 means no bound.", low=0
    )
    sampling: str = option(
        "poisson", "How batches are drawn.", choices=("poisson", "shuffled_epochs")
    )
    overflow_probability: float = option(
        1e-15,
        "Chance that a batch of fixed capacity is too small; it is part of delta.",
        above=0,
        high=1,
    )
    plot: str = option("", "PNG of epsilon over steps to write.")
    statement: bool = option(False, "Print tensorflow-privacy's statement too; slower.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for one, other in (
            ("batch_size", "sampling_probability"),
            ("epochs", "steps"),
            ("noise_multiplier", "target_epsilon"),
        ):
            given = [name for name in (one, other) if getattr(self, name)]
            if len(given) != 1:
                reason = "not both" if given else "one of them, > 0"
                raise UsageError(f"--{one}, --{other}: expected {reason}")
        if self.batch_size > self.rows:
            bound = f"at most --rows={self.rows}" if self.rows else "--rows beside it"
            raise UsageError(f"--batch_size={self.batch_size}: expected {bound}")
        if self.statement and not self.rows:
            raise UsageError("--statement: expected --rows beside it")


@dataclasses.dataclass(frozen=True)
class ReportOptions(CommonOptions):
    """Options of `report`."""

    table: bool = option(False, "Print the four models and a fifth side by side.")
    runs: str = option(
        DEFAULT_TABLE_DIR, "With --table: folder of the runs, each in <model>-seed<number>."
    )
    seeds: int = option(
        1, "With --table: how many seeds (0, 1, ..) of each model there should be.", low=1
    )
    format: str = option(
        "text", "With --table: what to print.", choices=("text", "markdown", "json")
    )


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
    "accounting": Verb(
        "Computes epsilon from noise or noise from epsilon, with a table over steps.",
        AccountingOptions,
    ),
    "report": Verb("Compares finished runs in one table.", ReportOptions),
}
