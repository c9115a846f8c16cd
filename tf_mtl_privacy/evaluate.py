"""Evaluates a trained run: `python -m tf_mtl_privacy.evaluate --run_dir=...`."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy import cli
from tf_mtl_privacy.config import AUDIT_FILE, CONFIG_FILE, DataConfig
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.schema import Results, read_audit, write_results
from tf_mtl_privacy.evaluation.train_test_overlap import (
    PLACES,
    asks_alike,
    own_dataset,
    refuse_trained_rows,
    seen_people,
)
from tf_mtl_privacy.files import private_dir, read_json, write_atomic
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.prepare import check_source
from tf_mtl_privacy.reporting.formats import show
from tf_mtl_privacy.reporting.privacy_text import STATEMENT_FILE, privacy_text
from tf_mtl_privacy.reporting.run_files import run_files
from tf_mtl_privacy.reporting.run_pictures import write_pictures
from tf_mtl_privacy.reporting.tables import results_table
from tf_mtl_privacy.verbs.training import check_split

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.training.inference import Predictions
    from tf_mtl_privacy.training.saved_run import SavedRun


def evaluate_run(
    run_dir: str | os.PathLike[str],
    data: DataConfig | None = None,
    split: str = "test",
    *,
    pictures: bool | None = None,
    probe: str = "none",
    removal_off: str = "",
) -> Results:
    """Evaluates a finished run, writes the result into its folder and returns it.

    Args:
        run_dir: the run's folder.
        data: the data to evaluate on; the run's own by default.
        split: "train", "validation" or "test".
        pictures: write `restored.png` and `regions.png` (run_pictures.py); by default only for
            synthetic faces, which are nobody's.
        probe: "fast" or "thorough": how hard fresh attackers try. "none" keeps what an earlier
            result of the same weights and data has of them.
        removal_off: folder of the same run without removal, see `--removal_off`.

    Returns:
        The content of `results_path(...)`; docs/results-schema.md describes it.

    Raises:
        UsageError: the data has no such rows, or its labels are not those of the run, or the run
            was trained on some of the rows and `split` is not "train"; or attackers are sent
            (`probe`) at other than test rows, which they learn from or choose by.
        RunError: the run cannot be loaded, its own data has changed since, or the result cannot be
            written.
    """
    check_split(split, probe)
    return _evaluate_and_write(run_dir, data, split, pictures, probe, removal_off)[0]


def _evaluate_and_write(
    run_dir: str | os.PathLike[str],
    data: DataConfig | None,
    split: str,
    pictures: bool | None = None,
    probe: str = "none",
    removal_off: str = "",
) -> tuple[Results, Path]:
    """The result and its file."""
    # Imported here: `--help` and wrong flags must answer before TensorFlow is loaded.
    from tf_mtl_privacy.data.opening import open_dataset
    from tf_mtl_privacy.evaluation.probes.saved import (
        kept_probe,
        kept_readings,
        networks,
        probe_run,
        weights_digest,
    )
    from tf_mtl_privacy.evaluation.regions import marked_regions
    from tf_mtl_privacy.reporting.environment import environment
    from tf_mtl_privacy.reporting.reconcile_probes import carried
    from tf_mtl_privacy.reporting.results import build_results
    from tf_mtl_privacy.training.saved_run import load_run

    run = load_run(run_dir)
    private_dir(run_dir, tighten=(CONFIG_FILE,))
    used = data or run.config.data
    _check_size(run.config.data, used)
    opened = open_dataset(used).aligned(run.task_classes, run.private_classes)
    _ = opened.fingerprint  # made here: what it needs must not be missing after the work is done
    results, dataset = _evaluate(run, opened, used, split)
    same = used == run.config.data or dataset.matches(run.data_fingerprint) is True
    fingerprint = "" if same else dataset.fingerprint
    path = results_path(run_dir, run.config.data, used, split, fingerprint)
    if probe == "none":
        attackers = kept_probe(path, run, dataset, used)
    else:
        attackers = probe_run(
            run, dataset, used, dataset.rows[split], probe, is_own=same, removal_off=removal_off
        )
    results[0]["privacy"]["probe"] = attackers
    weights, alike = weights_digest(networks(run)), same and asks_alike(run.config.data, used)
    results[0]["privacy"]["leakage"] = carried(_earlier(path), weights, dataset.matches)
    audit = read_audit(Path(run_dir) / AUDIT_FILE) if alike else None
    results[0]["regions"] = marked_regions(run, dataset, used, dataset.rows[split])
    whole = build_results(
        run.config,
        run.status,
        *results,
        environment(),
        audit if audit and audit.get("weights") == weights else None,
        # Without a whole attack, what is left of others: of interrupted ones, of the check.
        kept_readings(run_dir, weights) if alike and split == "test" and attackers is None else (),
    )
    if found := whole["privacy"].get("leakage"):
        found["weights"] = weights
    if pictures or (pictures is None and used.dataset == "synthetic_faces"):
        write_pictures(run, dataset, used, split, path)
    write_results(path, whole)
    _withdraw(Path(run_dir), run.status.get("dp") or {})
    return whole, path


def _withdraw(run_dir: Path, dp: Mapping[str, Any]) -> None:
    """Replaces the privacy statement of a run if its epsilon does not hold."""
    path = run_dir / STATEMENT_FILE
    if dp.get("void") and path.exists():
        write_atomic(path, privacy_text(dp), private=True)


def _earlier(path: Path) -> dict[str, Any] | None:
    """Reads the result that is about to be replaced; None where it is missing or damaged."""
    try:
        found = read_json(path)
    except RunError:
        return None
    return found if isinstance(found, dict) else None


def results_path(
    run_dir: str | os.PathLike[str],
    own: DataConfig,
    used: DataConfig,
    split: str = "test",
    fingerprint: str = "",
) -> Path:
    """The result's file: results.json for the run's own test rows.

    Otherwise it is named after the data set, what differs from the run's data, the first 8 digits
    of `fingerprint` (that of the data used, where it is not the run's own), and the split.
    """
    different = [
        (field.name, getattr(used, field.name))
        for field in dataclasses.fields(used)
        if getattr(used, field.name) != getattr(own, field.name) and field.name not in PLACES
    ]
    parts = ["results"]
    if used.dataset != own.dataset:
        parts.append(used.dataset)
    else:
        parts += [own.dataset] if different or fingerprint else []
        parts += [f"{name}-{value}" for name, value in different]
    # Any folder can hold a data set of that name; drawn faces are known by their options.
    drawn = own.dataset == used.dataset == "synthetic_faces" and different
    parts += [fingerprint[:8]] if fingerprint and not drawn else []
    parts += [split] if split != "test" else []
    return Path(run_dir) / (re.sub(r"[^\w.-]", "_", "_".join(parts)) + ".json")


def main(parsed: Parsed) -> int:
    """Evaluates, and prints the table."""
    check_source(parsed.data)
    cli.load_tensorflow()
    run_dir, split = parsed.options.run_dir, parsed.options.split
    results, path = _evaluate_and_write(
        run_dir,
        parsed.other_data,
        split,
        probe=parsed.options.probe,
        removal_off=parsed.options.removal_off,
    )
    show(results_table(results, run_files(run_dir, path.name)))
    return cli.OK


def _check_size(own: DataConfig, used: DataConfig) -> None:
    if used.image_size != own.image_size:
        raise UsageError(
            f"--image_size={used.image_size}: the run's networks take {own.image_size}; leave the "
            "flag out"
        )


def _evaluate(
    run: SavedRun, dataset: Dataset, used: DataConfig, split: str
) -> tuple[tuple[dict[str, Any], dict[str, Any]], Dataset]:
    """(evaluation part, what it was made on), and the data set."""
    from tf_mtl_privacy.evaluation.compatibility import check_tasks
    from tf_mtl_privacy.evaluation.summary import evaluation_summary

    notes = check_tasks(run.task_classes, dataset.task_classes)
    rows = dataset.rows[split]
    if not len(rows):
        raise UsageError(f"--split={split}: {used.dataset} has no such rows")
    own = own_dataset(run.config.data, run.data_fingerprint, used, dataset)
    if own is not None:
        refuse_trained_rows(own, dataset, split)
    predictions = predict_run(run, dataset, rows)
    no_discriminator = "the model has no discriminator"
    if run.bundle.discriminator is not None and dataset.private_classes != run.private_classes:
        predictions = predictions._replace(private_logits=None)
        no_discriminator = "the discriminator was trained on another private label"
    evaluation = evaluation_summary(
        predictions,
        run.task_classes,
        dataset.private_classes,
        {name: len(numbers) for name, numbers in dataset.rows.items()},
        len(getattr(dataset.store, "meta", {}).get("damaged", ())),
        no_discriminator,
        seen_people(own, dataset, rows),
        people=used.effective_private_label == "identity",
    )
    evaluated_on = {
        "dataset": used.dataset,
        "split": split,
        "data_fingerprint": dataset.fingerprint or None,
        "changed": {
            name: value
            for name, value in dataclasses.asdict(used).items()
            if value != getattr(run.config.data, name)
        },
        "label_note": " ".join(dataset.notes) or None,
        "notes": notes,
    }
    return (evaluation, evaluated_on), dataset


def predict_run(run: SavedRun, dataset: Dataset, rows: Any) -> Predictions:
    """Predictions of a run on rows of a data set.

    A single-task run's are those of its networks put together, each on its own task.
    """
    from tf_mtl_privacy.training.inference import mean_image, predict_rows

    if not run.single_task:
        return predict_rows(run.bundle, dataset, rows, mean_image=mean_image(dataset))
    merged = None
    for task, bundle in run.single_task.items():
        found = predict_rows(bundle, dataset, rows, label=f"evaluating {task}")
        merged = merged or found._replace(business={})
        merged.business[task] = found.business[task]
    assert merged is not None
    return merged


if __name__ == "__main__":
    cli.run("evaluate", main)
