"""Command `evaluate`: evaluates a trained run and writes its results.json."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.cli.options import (
    DEFAULT_RUN_DIR,
    CommonOptions,
    Parsed,
    probe_option,
    saves_attackers,
    verbose_option,
)
from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import OK, UsageError
from tf_mtl_privacy.tf_loading import load_tensorflow


@dataclasses.dataclass(frozen=True)
class EvaluateOptions(CommonOptions):
    """Options of `evaluate`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the trained run.")
    split: str = option("test", "Rows to evaluate on.", choices=("train", "validation", "test"))
    probe: str = probe_option("none")
    baseline_run: str = option(
        "",
        "With --probe: folder of a run on the same data that removes nothing, evaluated with fresh "
        "attackers. Its results show whether the attackers are strong enough.",
    )
    verbose: bool = verbose_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        from tf_mtl_privacy.reporting.evaluate_run import check_split

        check_split(self.split, self.probe)
        if self.baseline_run and self.probe == "none":
            raise UsageError(
                f"--baseline_run={self.baseline_run}: requires fresh attackers; add --probe=fast"
            )

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        if saves_attackers(self.probe):
            return "finished attackers are saved; rerun the same command to continue"
        return super().after_interrupt()


def main(parsed: Parsed) -> int:
    """Evaluates and prints the results."""
    from tf_mtl_privacy.data.opening import check_source

    check_source(parsed.data)
    load_tensorflow()
    from tf_mtl_privacy.reporting.evaluate_run import evaluate_and_write
    from tf_mtl_privacy.reporting.formats import show
    from tf_mtl_privacy.reporting.runs import run_files
    from tf_mtl_privacy.reporting.sections.summary import results_screen

    options: EvaluateOptions = parsed.options
    results, path = evaluate_and_write(
        options.run_dir,
        parsed.other_data,
        options.split,
        probe=options.probe,
        baseline_run=options.baseline_run,
    )
    files = run_files(options.run_dir, path.name)
    show(results_screen(results, files, verbose=options.verbose))
    return OK
