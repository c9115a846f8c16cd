"""Attribute accuracy on people with training pictures against people without any.

    python -m experiments.unseen_people --data_dir=photographs [--flagfile=photographs.cfg]
        [--folds=5] [--runs=runs/unseen_people] [--json=FILE]

Measures how much of the accuracy comes from recognising the person. People are divided into folds.
For each fold the same networks are trained, without game, mask, erasure or DP-SGD, on the training
pictures of everybody else. Each test picture is then classified twice: by the networks that never
saw the person, and by those of the next fold, which learned from other pictures of the person.
After an interruption, run the same command to resume. Prints Markdown.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.runs import INTERRUPTED, say
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.data.sources.base import fingerprint
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.train_test_overlap import PLACES
from tf_mtl_privacy.evaluation.utility import utility
from tf_mtl_privacy.files import private_dir, write_json
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.reporting.render_markdown import markdown_table
from tf_mtl_privacy.reporting.results import environment
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.inference import business_logits
from tf_mtl_privacy.types import Array

KNOWN, UNKNOWN = "trained on other pictures of the person", "never saw the person"
_PLAIN = (
    "--model=mtl_adv",
    *("--beta=0", "--beta_late=0", "--beta_step=0"),
    *("--mask=none", "--erasure=none", "--feature_noise=0", "--dp_scope=discriminator"),
)
_RESAMPLES = 2_000
Train = Callable[[Config, Dataset, Path], Bundle]


def main(argv: Sequence[str] | None = None, train: Train | None = None) -> int:
    """Trains, classifies and prints; returns 1 on a failure, 130 if interrupted."""
    options = _options(sys.argv[1:] if argv is None else argv)
    flags = [f"--flagfile={options.flagfile}", f"--data_dir={options.data_dir}", *_PLAIN]
    try:
        config = parse("train", flags).config
        folder = private_dir(options.runs)
        results = measure(config, open_dataset(config.data), options.folds, folder, train or _fit)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (UsageError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(_table(results)))
    if options.json:
        about = {"config": _without_places(config), "folds": options.folds, **environment()}
        write_json(options.json, {"tasks": results, **about})
    return 0


def measure(
    config: Config, dataset: Dataset, folds: int, folder: Path, train: Train
) -> dict[str, dict[str, Any]]:
    """Returns task -> `KNOWN`, `UNKNOWN`, `people`, `balanced_gap` and `balanced_gap_ci95`.

    `KNOWN` and `UNKNOWN` map to the figures of `utility` and `balanced_ci95`. Intervals are 95 %
    bootstrap intervals over 2,000 resamples of people with all their pictures, because pictures of
    one person are not independent.

    Args:
        config: configuration to train.
        dataset: its data; people without a number are left out.
        folds: number of folds.
        folder: folder of the runs.
        train: trains and returns the networks of one fold.

    Raises:
        UsageError: fewer people than folds have both training and test pictures.
    """
    dealt = folds_of_people(dataset, folds)
    networks = []
    for number, left_out in enumerate(dealt):
        part = without(dataset, left_out)
        place = folder / f"fold{number}-{part.fingerprint[:12]}"
        networks.append(train(config, part, place))
        say(f"fold {number + 1}/{folds}: {len(left_out)} people left out")
    rows = [np.flatnonzero(_tested(dataset) & np.isin(dataset.person, people)) for people in dealt]
    answers = {
        UNKNOWN: [business_logits(networks[k], dataset, rows[k]) for k in range(folds)],
        KNOWN: [business_logits(networks[(k + 1) % folds], dataset, rows[k]) for k in range(folds)],
    }
    results = {}
    for task in dataset.task_classes:
        logits = {kind: np.concatenate([p[task] for p in parts]) for kind, parts in answers.items()}
        results[task] = _figures(dataset, task, np.concatenate(rows), logits)
    return results


def folds_of_people(dataset: Dataset, folds: int) -> list[Array]:
    """Returns the people of each fold; classes of the first task are spread evenly.

    Raises:
        UsageError: see `measure`, or the data has no identities.
    """
    if dataset.person is None:
        raise UsageError(
            f"--dataset={dataset.name}: the data has no identities; use a data set that has"
        )
    first = next(iter(dataset.all_labels.business.values()))
    tested = np.unique(dataset.person[_tested(dataset)])
    trained = np.unique(dataset.person[dataset.rows["train"]])
    people = np.intersect1d(tested, trained)
    people = people[people >= 0]
    if len(people) < folds:
        raise UsageError(
            f"--folds={folds}: {len(people)} people have training and test pictures; lower it"
        )
    where = [np.flatnonzero(dataset.person == person)[0] for person in people]
    ordered = people[np.argsort(first[where], kind="stable")]
    return [ordered[number::folds] for number in range(folds)]


def without(dataset: Dataset, left_out: Array) -> Dataset:
    """Returns the data without pictures of these people and of people without a number."""
    assert dataset.person is not None
    gone = np.isin(dataset.person, left_out) | (dataset.person < 0)
    rows = {name: split[~gone[split]] for name, split in dataset.rows.items()}
    parts = [rows[name].tobytes() for name in sorted(rows)]
    return dataclasses.replace(dataset, rows=rows, digest=fingerprint(dataset.digest, *parts))


def _tested(dataset: Dataset) -> Array:
    results = np.zeros(len(dataset.all_labels.private), bool)
    results[dataset.rows["test"]] = True
    return results


def _figures(
    dataset: Dataset, task: str, rows: Array, logits: Mapping[str, Array]
) -> dict[str, Any]:
    labels, people = dataset.labels_of(rows).business[task], dataset.person[rows]
    names = dataset.task_classes[task]

    def balanced(places: Array) -> list[float]:
        return [
            float(utility(logits[kind][places], labels[places], names)["balanced_accuracy"])
            for kind in (KNOWN, UNKNOWN)
        ]

    drawn = np.array([balanced(places) for places in _resamples(people)])
    known, unknown = balanced(np.arange(len(rows)))
    results: dict[str, Any] = {
        kind: {**utility(logits[kind], labels, names), "balanced_ci95": _middle(drawn[:, k])}
        for k, kind in enumerate((KNOWN, UNKNOWN))
    }
    return {
        **results,
        "people": len(np.unique(people)),
        "balanced_gap": known - unknown,
        "balanced_gap_ci95": _middle(drawn[:, 0] - drawn[:, 1]),
    }


def _resamples(people: Array) -> Iterator[Array]:
    """Yields positions of the pictures of as many people, drawn with replacement."""
    rng = np.random.default_rng(0)
    places = [np.flatnonzero(people == person) for person in np.unique(people)]
    for _ in range(_RESAMPLES):
        yield np.concatenate([places[k] for k in rng.integers(len(places), size=len(places))])


def _middle(values: Array) -> list[float]:
    return [float(bound) for bound in np.quantile(values, [0.025, 0.975])]


def _without_places(config: Config) -> dict[str, dict[str, Any]]:
    """Returns the configuration without the paths of one machine."""
    sections = config.to_dict()
    return {n: {k: v for k, v in s.items() if k not in PLACES} for n, s in sections.items()}


def _fit(config: Config, dataset: Dataset, folder: Path) -> Bundle:
    return fit(config, dataset, run_dir=folder, report=say).bundle


def _table(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    def span(figures: Mapping[str, Any], name: str, interval: str) -> str:
        low, high = (f"{100 * bound:.1f}" for bound in figures[interval])
        return f"{100 * figures[name]:.1f} % ({low} to {high})"

    rows = []
    for task, figures in results.items():
        for kind in (KNOWN, UNKNOWN):
            part = figures[kind]
            accuracy = f"{100 * part['accuracy']:.1f} %"
            balanced = span(part, "balanced_accuracy", "balanced_ci95")
            rows.append([task, kind, str(figures["people"]), str(part["n"]), accuracy, balanced])
        gap = span(figures, "balanced_gap", "balanced_gap_ci95")
        rows.append([task, "gain by recognition, points", "", "", "", gap.replace(" %", "")])
    return markdown_table(("task", "networks", "people", "pictures", "accuracy", "balanced"), rows)


def _options(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.unseen_people", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data_dir", required=True, help="folder of the pictures")
    parser.add_argument("--flagfile", default="photographs.cfg", help="configuration to train")
    parser.add_argument("--folds", type=int, default=5, help="number of folds, at least 2")
    parser.add_argument("--runs", default="runs/unseen_people", help="folder of the runs")
    parser.add_argument("--json", default="", help="output file for the figures")
    options = parser.parse_args(argv)
    if options.folds < 2:
        parser.error(f"--folds={options.folds}: expected at least 2")
    return options


if __name__ == "__main__":
    sys.exit(main())
