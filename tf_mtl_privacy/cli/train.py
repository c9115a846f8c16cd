"""Command `train`: trains or resumes a run, and evaluates it."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from tf_mtl_privacy.cli.options import (
    DEFAULT_RUN_DIR,
    CommonOptions,
    Parsed,
    probe_option,
    saves_attackers,
    verbose_option,
)
from tf_mtl_privacy.config import AUDIT_FOLDER
from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.config.run import evaluation_only
from tf_mtl_privacy.errors import OK, UsageError
from tf_mtl_privacy.files import write_atomic
from tf_mtl_privacy.tf_loading import load_tensorflow


@dataclasses.dataclass(frozen=True)
class TrainOptions(CommonOptions):
    """Options of `train`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the run; an unfinished run is resumed.")
    config: str = option("", "A saved config.json to start from; flags override it.")
    log_images: bool = option(
        False,
        "Write pictures of real people to TensorBoard; synthetic faces are always written.",
    )
    probe: str = probe_option("fast")
    verbose: bool = verbose_option()

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        from tf_mtl_privacy.training.run_dir import has_checkpoint, has_finished

        folder = Path(self.run_dir)
        if has_finished(folder):
            saved = "; finished attackers are saved" if saves_attackers(self.probe) else ""
            return f"training is finished{saved}; rerun the same command to evaluate"
        if has_checkpoint(folder):
            return "rerun the same command to resume from the last checkpoint"
        return "there is no checkpoint yet; rerun the same command to start again"


def main(parsed: Parsed) -> int:
    """Trains, evaluates on test rows, and prints the results."""
    _check_inputs(parsed)
    load_tensorflow()
    from tf_mtl_privacy.reporting.evaluate_run import evaluate_run, results_path
    from tf_mtl_privacy.reporting.formats import show
    from tf_mtl_privacy.reporting.runs import STATEMENT_FILE, run_files
    from tf_mtl_privacy.reporting.sections.privacy import privacy_text
    from tf_mtl_privacy.reporting.sections.summary import results_screen
    from tf_mtl_privacy.training.fit import fit

    run_dir, data = parsed.options.run_dir, parsed.config.data
    _say(
        f"Training {parsed.config.train.model} on {data.dataset} in {run_dir}. Press Ctrl-C to "
        "stop; rerun the same command to resume."
    )
    check = None
    if parsed.options.probe != "none":
        from tf_mtl_privacy.evaluation.training_checks import fresh_check

        check = fresh_check(parsed.config, folder=Path(run_dir) / AUDIT_FOLDER)
    run = fit(
        parsed.config,
        run_dir=run_dir,
        log_images=parsed.options.log_images,
        report=_say,
        check=check,
    )
    if run.status["dp"]["scope"]:
        write_atomic(run.run_dir / STATEMENT_FILE, privacy_text(run.status["dp"]), private=True)
    results = evaluate_run(
        run_dir, pictures=parsed.options.log_images or None, probe=parsed.options.probe
    )
    files = run_files(run_dir, results_path(run_dir, data, data).name)
    show(results_screen(results, files, verbose=parsed.options.verbose))
    return OK


def _check_inputs(parsed: Parsed) -> None:
    """Refuses missing inputs before TensorFlow is loaded and data is prepared, which take time."""
    from tf_mtl_privacy.data.opening import check_source
    from tf_mtl_privacy.start_files import check_start_files
    from tf_mtl_privacy.training.run_dir import claim, has_finished

    config = parsed.config
    if config.data.is_evaluation_only:
        raise UsageError(evaluation_only(config.data.dataset))
    with claim(parsed.options.run_dir, config) as folder:
        check_source(config.data)
        if not has_finished(folder):
            check_start_files(config)


def _say(text: str) -> None:
    from tqdm import tqdm

    # Through tqdm, so that the text does not break a progress bar on the terminal.
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()
