"""Trains a run, or continues it, and evaluates it: `python -m tf_mtl_privacy.train`."""

from __future__ import annotations

import sys
from pathlib import Path

from tqdm import tqdm

from tf_mtl_privacy import cli
from tf_mtl_privacy.config import AUDIT_FOLDER
from tf_mtl_privacy.config.run import FOR_EVALUATION_ONLY
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.files import write_atomic
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.prepare import check_source
from tf_mtl_privacy.reporting.formats import show
from tf_mtl_privacy.reporting.privacy_text import STATEMENT_FILE, privacy_text
from tf_mtl_privacy.reporting.run_files import run_files
from tf_mtl_privacy.reporting.tables import results_table
from tf_mtl_privacy.start_files import check_start_files


def main(parsed: Parsed) -> int:
    """Trains, evaluates on test rows, prints one table."""
    _look_first(parsed)
    cli.load_tensorflow()
    from tf_mtl_privacy.evaluate import evaluate_run, results_path
    from tf_mtl_privacy.evaluation.training_checks import fresh_check
    from tf_mtl_privacy.training.fit import fit

    run_dir, data = parsed.options.run_dir, parsed.config.data
    train = parsed.config.train
    _say(
        f"training {train.model} on {data.dataset} in {run_dir} (Ctrl-C stops it; the same command "
        "goes on from there)"
    )
    check = None
    if parsed.options.probe != "none":
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
    show(results_table(results, run_files(run_dir, results_path(run_dir, data, data).name)))
    return cli.OK


def _look_first(parsed: Parsed) -> None:
    """Refuses at once what is missing: loading TensorFlow and preparing data take time."""
    from tf_mtl_privacy.training.run_dir import claim, has_finished

    config = parsed.config
    if config.data.dataset == "lfw":
        raise UsageError(FOR_EVALUATION_ONLY)
    with claim(parsed.options.run_dir, config) as folder:
        check_source(config.data)
        if not has_finished(folder):
            check_start_files(config)


def _say(text: str) -> None:
    # Through tqdm, so that a progress bar on the terminal is not torn apart.
    tqdm.write(text, file=sys.stderr)
    sys.stderr.flush()


if __name__ == "__main__":
    cli.run("train", main)
