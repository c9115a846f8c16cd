"""Evaluates a finished run and writes its results.json, with pictures beside it."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.config import AUDIT_FILE, CONFIG_FILE, DataConfig
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.schema import Results, read_audit, read_results, write_results
from tf_mtl_privacy.files import private_dir, write_atomic

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.training.inference import Predictions
    from tf_mtl_privacy.training.saved_run import SavedRun


def check_split(split: str, probe: str) -> None:
    """Refuses fresh attackers on rows that they learn from or are chosen by.

    Args:
        split: the rows to evaluate.
        probe: effort of fresh attackers; "none" for no attackers.

    Raises:
        UsageError: fresh attackers on rows other than test rows.
    """
    if probe != "none" and split != "test":
        raise UsageError(
            f"--split={split}: fresh attackers (--probe={probe}) are tested on test rows; leave "
            "out one of the two"
        )


def evaluate_run(
    run_dir: str | os.PathLike[str],
    data: DataConfig | None = None,
    split: str = "test",
    *,
    pictures: bool | None = None,
    probe: str = "none",
    baseline_run: str = "",
) -> Results:
    """Evaluates a finished run, writes the result into its folder, and returns it.

    Args:
        run_dir: the run's folder.
        data: the data to evaluate on; the run's own by default.
        split: "train", "validation" or "test".
        pictures: write `restored.png` and `regions.png`; by default only for synthetic faces,
            which show no real person.
        probe: effort of fresh attackers, "fast" or "thorough"; "none" sends none and keeps the
            attackers' figures of an earlier result for the same weights and data.
        baseline_run: folder of a run on the same data that removes nothing, see `--baseline_run`.

    Returns:
        The content of `results_path(...)`; docs/results-schema.md describes it.

    Raises:
        UsageError: the data has no rows of this split, its labels differ from the run's, the run
            was trained on some of the rows although `split` is not "train", or `probe` asks for
            attackers on rows other than test rows.
        RunError: the run cannot be loaded, its data has changed, or the result cannot be written.
    """
    return evaluate_and_write(run_dir, data, split, pictures, probe, baseline_run)[0]


def evaluate_and_write(
    run_dir: str | os.PathLike[str],
    data: DataConfig | None,
    split: str,
    pictures: bool | None = None,
    probe: str = "none",
    baseline_run: str = "",
) -> tuple[Results, Path]:
    """Evaluates like `evaluate_run`, and returns the result and its path."""
    check_split(split, probe)
    # Imported here: the command refuses wrong flags before TensorFlow is loaded.
    from tf_mtl_privacy.data.opening import open_dataset
    from tf_mtl_privacy.evaluation.probes.saved import (
        kept_probe,
        kept_readings,
        networks,
        probe_run,
        weights_digest,
    )
    from tf_mtl_privacy.evaluation.regions import marked_regions
    from tf_mtl_privacy.evaluation.train_test_overlap import asks_alike
    from tf_mtl_privacy.reporting.pictures import write_pictures
    from tf_mtl_privacy.reporting.reconcile_probes import carried
    from tf_mtl_privacy.reporting.results import build_results, environment
    from tf_mtl_privacy.training.saved_run import load_run

    run = load_run(run_dir)
    private_dir(run_dir, tighten=(CONFIG_FILE,))
    used = data or run.config.data
    _check_size(run.config.data, used)
    opened = open_dataset(used).aligned(run.task_classes, run.private_classes)
    _ = opened.fingerprint  # computed now, so that a missing key fails before the long work
    results, dataset = _evaluate(run, opened, used, split)
    same = used == run.config.data or dataset.matches(run.data_fingerprint) is True
    fingerprint = "" if same else dataset.fingerprint
    path = results_path(run_dir, run.config.data, used, split, fingerprint)
    if probe == "none":
        attackers = kept_probe(path, run, dataset, used)
    else:
        attackers = probe_run(
            run, dataset, used, dataset.rows[split], probe, is_own=same, baseline_run=baseline_run
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
        # Without a complete attack, the results of interrupted ones and of training's check.
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
    """Replaces the privacy statement of a run if its epsilon is void."""
    from tf_mtl_privacy.reporting.runs import STATEMENT_FILE
    from tf_mtl_privacy.reporting.sections.privacy import privacy_text

    path = run_dir / STATEMENT_FILE
    if dp.get("void") and path.exists():
        write_atomic(path, privacy_text(dp), private=True)


def _earlier(path: Path) -> Results | None:
    """Reads the result that is about to be replaced; None if it is missing or damaged."""
    try:
        return read_results(path)
    except RunError:
        return None


def results_path(
    run_dir: str | os.PathLike[str],
    own: DataConfig,
    used: DataConfig,
    split: str = "test",
    fingerprint: str = "",
) -> Path:
    """Returns the path of a result: results.json for the run's own test rows.

    Otherwise its name has the data set, the options that differ from the run's data, the first 8
    digits of `fingerprint`, and the split.

    Args:
        run_dir: the run's folder.
        own: the run's data.
        used: the data that is evaluated on.
        split: "train", "validation" or "test".
        fingerprint: that of the data used; empty for the run's own data.
    """
    from tf_mtl_privacy.evaluation.train_test_overlap import PLACES

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
    # Any folder can hold a data set of that name; options identify synthetic faces.
    drawn = own.dataset == used.dataset == "synthetic_faces" and different
    parts += [fingerprint[:8]] if fingerprint and not drawn else []
    parts += [split] if split != "test" else []
    return Path(run_dir) / (re.sub(r"[^\w.-]", "_", "_".join(parts)) + ".json")


def _check_size(own: DataConfig, used: DataConfig) -> None:
    if used.image_size != own.image_size:
        raise UsageError(
            f"--image_size={used.image_size}: the run's networks take {own.image_size}; leave the "
            "flag out"
        )


def _evaluate(
    run: SavedRun, dataset: Dataset, used: DataConfig, split: str
) -> tuple[tuple[Any, dict[str, Any]], Dataset]:
    """Returns (evaluation, description of the data), and the data set."""
    from tf_mtl_privacy.evaluation.compatibility import check_tasks
    from tf_mtl_privacy.evaluation.summary import evaluation_summary
    from tf_mtl_privacy.evaluation.train_test_overlap import (
        own_dataset,
        refuse_trained_rows,
        seen_people,
    )

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
    """Predicts rows of a data set.

    The networks of a single-task run predict one task each; their predictions are merged.

    Args:
        run: a finished run.
        dataset: the data set.
        rows: `[n]` int64 row numbers.
    """
    from tf_mtl_privacy.training.inference import mean_image, predict_rows

    if not run.single_task:
        return predict_rows(run.bundle, dataset, rows, mean_image=mean_image(dataset))
    merged = None
    for task, bundle in run.single_task.items():
        predicted = predict_rows(bundle, dataset, rows, label=f"evaluating {task}")
        merged = merged or predicted._replace(business={})
        merged.business[task] = predicted.business[task]
    assert merged is not None
    return merged
