"""Options of the commands that prepare data, train, evaluate and predict."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.verbs.common import DEFAULT_RUN_DIR, CommonOptions

_PROBES = ("none", "fast", "thorough")
_PROBE_HELP = (
    "How hard fresh attackers try to read the private label from what the run gives away: 'fast' "
    "takes minutes on two cores, 'thorough' is for an audit."
)


@dataclasses.dataclass(frozen=True)
class PrepareOptions(CommonOptions):
    """Options of `prepare`."""

    config: str = option("", "A saved config.json to start from; flags override it.")
    force: bool = option(False, "Prepare again even if the store is already there.")
    verify: bool = option(False, "Read the whole store and compare it with its checksum.")
    workers: int = option(0, "Threads that decode images; 0 means one per core.", low=0)

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        command = "the same command without --force" if self.force else "the same command"
        return f"{command} continues with the pictures that are left"


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

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        from tf_mtl_privacy.training.run_dir import has_checkpoint, has_finished

        folder = Path(self.run_dir)
        if has_finished(folder):
            kept = ", and finished attackers are kept" if _keeps_attackers(self.probe) else ""
            return f"the run is trained; the same command only evaluates it{kept}"
        if has_checkpoint(folder):
            return "the same command continues from the last checkpoint"
        return "there is no checkpoint yet; the same command begins again"


def _keeps_attackers(probe: str) -> bool:
    from tf_mtl_privacy.evaluation.probes.budget import PROBE_BUDGETS

    return probe in PROBE_BUDGETS and PROBE_BUDGETS[probe].kept


def check_split(split: str, probe: str) -> None:
    """Refuses fresh attackers on rows that they learn from or choose by.

    Args:
        split: the rows that are evaluated.
        probe: how hard attackers try; "none" sends none.

    Raises:
        UsageError: attackers are sent, and the rows are not test rows.
    """
    if probe != "none" and split != "test":
        raise UsageError(
            f"--split={split}: fresh attackers (--probe={probe}) are tested on test rows; leave "
            "out one of the two"
        )


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
        check_split(self.split, self.probe)
        if self.removal_off and self.probe == "none":
            raise UsageError(f"--removal_off={self.removal_off}: expected --probe=fast beside it")

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        if _keeps_attackers(self.probe):
            return "finished attackers are kept; the same command evaluates the run with the others"
        return super().after_interrupt()


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
    server: str = option(
        "",
        "Ask a server of an exported model instead of a run: http://HOST:PORT (REST), with a "
        "proxy's password https://NAME:PASSWORD@HOST, or grpc://HOST:PORT.",
    )
    model_name: str = option("faces", "With --server: the model's name.")
    deadline: float = option(
        60.0, "With --server: seconds for each request, with its retries.", above=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.server:
            # Only here: no other command needs what it imports.
            from tf_mtl_privacy.serving.client.predictor import check_server

            check_server(self.server, self.model_name)

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        return "no table was written; the same command begins again"
