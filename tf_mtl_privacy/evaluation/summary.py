"""Puts the figures of one evaluation together, as they stand in results.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tf_mtl_privacy.evaluation.train_test_overlap import NOT_KNOWN, SeenPeople
from tf_mtl_privacy.evaluation.utility import restoration, subgroups, utility
from tf_mtl_privacy.training.inference import Predictions

DISCRIMINATOR_NOTE = (
    "the in-loop discriminator; not the leakage, which is what a fresh attacker finds"
)


def evaluation_summary(
    predictions: Predictions,
    task_classes: Mapping[str, Sequence[str]],
    private_classes: Sequence[str],
    rows_per_split: Mapping[str, int],
    damaged: int,
    no_discriminator: str = "the model has no discriminator",
    seen: SeenPeople = NOT_KNOWN,
    *,
    people: bool = False,
) -> dict[str, Any]:
    """The evaluation part of results.json; docs/results-schema.md says what each key means.

    Args:
        predictions: what the model said about the rows.
        task_classes: task -> class names.
        private_classes: names of the private label's classes; empty where there is none.
        rows_per_split: split -> number of rows.
        damaged: images of the data set that could not be read.
        no_discriminator: why there are no discriminator's logits, where there are none.
        seen: whom among the rows the run has seen in training.
        people: True if the private label is identity; nobody is named then.
    """
    scores = {
        task: utility(predictions.business[task], predictions.business_labels[task], classes)
        for task, classes in task_classes.items()
    }
    unknown: dict[str, int] = {task: figures.pop("unknown") for task, figures in scores.items()}
    unknown["private_label"] = int((predictions.private_labels < 0).sum())
    return {
        "utility": scores,
        "utility_unseen_people": _unseen(predictions, task_classes, seen),
        "utility_on_restored": _on_restored(predictions, task_classes),
        "restoration": restoration(predictions.psnr, predictions.ssim, predictions.mean_image_psnr),
        "privacy": _privacy(predictions, private_classes, no_discriminator),
        "subgroups": subgroups(
            predictions.business,
            predictions.business_labels,
            task_classes,
            predictions.private_labels,
            private_classes,
            people=people,
        ),
        "counts": {
            "rows": {split: int(count) for split, count in rows_per_split.items()},
            "evaluated": len(predictions.index),
            "unknown_labels": unknown,
            "damaged": damaged,
            "people_seen": seen.people,
        },
    }


def _unseen(
    predictions: Predictions, task_classes: Mapping[str, Sequence[str]], seen: SeenPeople
) -> dict[str, Any]:
    """Task -> a part of `utility`, on the rows of people who were not seen in training."""
    if seen.unseen is None:
        return {task: {"accuracy": None, "n": 0, "reason": seen.reason} for task in task_classes}
    if not seen.unseen.any():
        reason = "no evaluated row is of a person who was not seen in training"
        return {task: {"accuracy": None, "n": 0, "reason": reason} for task in task_classes}
    found = {}
    for task, classes in task_classes.items():
        logits, labels = predictions.business[task], predictions.business_labels[task]
        figures = utility(logits[seen.unseen], labels[seen.unseen], classes)
        kept = ("accuracy", "balanced_accuracy", "ci95", "n", "reason")
        found[task] = {name: figures[name] for name in kept if name in figures}
    return found


def _on_restored(
    predictions: Predictions, task_classes: Mapping[str, Sequence[str]]
) -> dict[str, Any] | None:
    """The same figures as `utility`, read from re-encoded restored images; None without any."""
    if predictions.business_on_restored is None:
        return None
    scores = {
        task: utility(
            predictions.business_on_restored[task], predictions.business_labels[task], classes
        )
        for task, classes in task_classes.items()
    }
    for figures in scores.values():
        del figures["unknown"]
    return scores


def _privacy(
    predictions: Predictions, private_classes: Sequence[str], no_discriminator: str
) -> dict[str, Any]:
    if not private_classes:
        empty = dict.fromkeys(("discriminator", "chance", "majority", "probe"))
        return {**empty, "classes": 0, "reason": "the data set has no private label"}
    known = predictions.private_labels[predictions.private_labels >= 0]
    result: dict[str, Any] = {
        # Fresh attackers come later: they need networks and more rows.
        "probe": None,
        "classes": len(private_classes),
        "chance": 1 / len(private_classes),
        "majority": float(np.bincount(known).max() / known.size) if known.size else None,
    }
    if predictions.private_logits is None:
        return {**result, "discriminator": None, "reason": no_discriminator}
    figures = utility(predictions.private_logits, predictions.private_labels, private_classes)
    kept = ("accuracy", "balanced_accuracy", "ci95", "n", "reason")
    discriminator = {name: figures[name] for name in kept if name in figures}
    return {**result, "discriminator": {**discriminator, "note": DISCRIMINATOR_NOTE}}
