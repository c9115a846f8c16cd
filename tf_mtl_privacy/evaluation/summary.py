"""Builds the part of results.json that one evaluation measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np

from tf_mtl_privacy.evaluation.schema import (
    Evaluation,
    PartialUtility,
    PrivacyResults,
    Utility,
)
from tf_mtl_privacy.evaluation.train_test_overlap import NOT_KNOWN, SeenPeople
from tf_mtl_privacy.evaluation.utility import restoration, subgroups, utility
from tf_mtl_privacy.training.inference import Predictions

DISCRIMINATOR_NOTE = (
    "the in-loop discriminator; not the leakage, which is what a fresh attacker finds"
)
_PARTIAL = ("accuracy", "balanced_accuracy", "ci95", "n", "reason")


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
) -> Evaluation:
    """Builds the evaluation part of results.json, without fresh attackers and regions.

    Args:
        predictions: the model's outputs on the rows.
        task_classes: task -> class names.
        private_classes: names of the private label's classes; empty without one.
        rows_per_split: split -> number of rows.
        damaged: number of images of the data set that could not be read.
        no_discriminator: why there are no logits of the discriminator, where there are none.
        seen: people among the rows with training rows.
        people: True if the private label is identity; nobody is named then.
    """
    logits, labels = predictions.business, predictions.business_labels
    scores = {task: utility(logits[task], labels[task], c) for task, c in task_classes.items()}
    unknown = {task: figures["unknown"] for task, figures in scores.items()}
    unknown["private_label"] = int((predictions.private_labels < 0).sum())
    return {
        "utility": {task: _without_unknown(figures) for task, figures in scores.items()},
        "utility_unseen_people": _unseen(predictions, task_classes, seen),
        "utility_on_restored": _on_restored(predictions, task_classes),
        "restoration": restoration(predictions.psnr, predictions.ssim, predictions.mean_image_psnr),
        "privacy": _privacy(predictions, private_classes, no_discriminator),
        "subgroups": subgroups(
            logits,
            labels,
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
) -> dict[str, PartialUtility]:
    """Returns a part of the utility on the rows of people without training rows, by task."""
    reason = seen.reason
    if seen.unseen is not None and not seen.unseen.any():
        reason = "no evaluated row is of a person who was not seen in training"
    if seen.unseen is None or not seen.unseen.any():
        return {task: {"accuracy": None, "n": 0, "reason": reason} for task in task_classes}
    result = {}
    for task, classes in task_classes.items():
        logits, labels = predictions.business[task], predictions.business_labels[task]
        result[task] = _partial(utility(logits[seen.unseen], labels[seen.unseen], classes))
    return result


def _on_restored(
    predictions: Predictions, task_classes: Mapping[str, Sequence[str]]
) -> dict[str, Utility] | None:
    """Returns the utility on restored images that are encoded again; None without a restorer."""
    logits, labels = predictions.business_on_restored, predictions.business_labels
    if logits is None:
        return None
    return {
        task: _without_unknown(utility(logits[task], labels[task], classes))
        for task, classes in task_classes.items()
    }


def _privacy(
    predictions: Predictions, private_classes: Sequence[str], no_discriminator: str
) -> PrivacyResults:
    if not private_classes:
        return {
            "discriminator": None,
            "chance": None,
            "majority": None,
            "probe": None,
            "classes": 0,
            "reason": "the data set has no private label",
        }
    known = predictions.private_labels[predictions.private_labels >= 0]
    result: PrivacyResults = {
        # Fresh attackers are added later; they need networks and more rows.
        "probe": None,
        "classes": len(private_classes),
        "chance": 1 / len(private_classes),
        "majority": float(np.bincount(known).max() / known.size) if known.size else None,
        "discriminator": None,
    }
    if predictions.private_logits is None:
        result["reason"] = no_discriminator
        return result
    figures = utility(predictions.private_logits, predictions.private_labels, private_classes)
    result["discriminator"] = {**_partial(figures), "note": DISCRIMINATOR_NOTE}
    return result


def _without_unknown(figures: Mapping[str, Any]) -> Utility:
    return cast(Utility, {name: value for name, value in figures.items() if name != "unknown"})


def _partial(figures: Mapping[str, Any]) -> PartialUtility:
    return cast(PartialUtility, {name: figures[name] for name in _PARTIAL if name in figures})
