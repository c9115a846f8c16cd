"""The top of a report: the few figures that matter, and what they mean in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.reporting.document import Tile
from tf_mtl_privacy.reporting.formats import at_most, count, decibel, duration, interval, percent
from tf_mtl_privacy.reporting.mask_evidence import BLIND, NO_MASK
from tf_mtl_privacy.reporting.membership_words import (
    attack_name,
    auc_text,
    caught,
    same_people_note,
    unshown,
    worst_attack,
)
from tf_mtl_privacy.reporting.privacy_card import private_name
from tf_mtl_privacy.reporting.privacy_lines import epsilon
from tf_mtl_privacy.reporting.reconcile_probes import TARGETS, entry
from tf_mtl_privacy.reporting.run_folder import ReportRun

_HIDDEN = "not measured"


def tiles(run: ReportRun, card: Mapping[str, Any], found: Mapping[str, Any] | None) -> list[Tile]:
    """Makes tiles of the worst leak, the first task, restored images, epsilon and membership.

    Args:
        run: the run.
        card: its privacy card.
        found: what fresh attackers found (`reconcile_probes.leakage`), or None.
    """
    return [
        _leak(run, found),
        *_task(run.results),
        _restored(run.results["restoration"]),
        _epsilon(card),
        _membership(run.audit),
    ]


def summary(run: ReportRun, card: Mapping[str, Any]) -> Iterator[str]:
    """Sentences in plain words."""
    results = run.results
    training, counts = results.get("training") or {}, results.get("counts") or {}
    seconds = f" in {duration(training['seconds'])}" if training.get("seconds") else ""
    rows = (counts.get("rows") or {}).get("train")
    yield (
        f"This is {run.title}, trained on {count(rows)} pictures of {run.dataset}{seconds} and "
        f"tested on {count(counts.get('evaluated'))} that no part of the training saw."
    )
    told = [
        f"{task} {percent(figures['accuracy'])}"
        for task, figures in results["utility"].items()
        if figures.get("accuracy") is not None
    ]
    if told:
        yield f"Read right on test pictures: {', '.join(told)}."
    if results["privacy"].get("classes", 1):
        yield f"What must not be read is {private_name(results)}."
    yield card["summary"]
    if run.figures.mask != NO_MASK:
        yield (
            "A learned mask covers what it finds to say that before the encoder sees it; the "
            "privacy card says what passes under it."
        )
    if run.figures.mask == BLIND:
        yield (
            "The in-loop discriminator reads no more than chance before and after the game, so "
            "what attackers no longer find, the mask took, not the game."
        )


def _leak(run: ReportRun, found: Mapping[str, Any] | None) -> Tile:
    title = f"A fresh attacker reads {private_name(run.results)}"
    worst = (found or {}).get("worst")
    if not found or not worst:
        return Tile(title, _HIDDEN, "no fresh attacker was sent")
    pixels = entry(found, "pixels")["accuracy"]
    read, chance = percent(worst["accuracy"]), percent(run.results["privacy"].get("chance"))
    target, upper = TARGETS[worst["target"]], TARGETS[worst["upper_target"]]
    also = f" from {upper}" if upper != target else ""
    claim = "" if found["claim"] else " No bound is claimed: see the privacy card."
    return Tile(
        title,
        f"{percent(pixels)} → {read}" if pixels is not None else read,
        f"{'from pixels → ' if pixels is not None else ''}from {target}, by the strongest attacker "
        f"of all; upper end {at_most(worst['upper'])}{also}; chance {chance}."
        f"{_features(found, worst)}{_before_game(found)}{claim}",
    )


def _features(found: Mapping[str, Any], worst: Mapping[str, Any]) -> str:
    features = entry(found, "features")
    if worst["target"] == "features" or features["accuracy"] is None:
        return ""
    return (
        f" From features {percent(features['accuracy'])}, upper end {at_most(features['upper'])}."
    )


def _before_game(found: Mapping[str, Any]) -> str:
    """Compares the features before the game with now; both figures are balanced accuracies."""
    before, now = found["before_game"], entry(found, "features").get("balanced_accuracy")
    if before is None or now is None:
        return ""
    return (
        f" Features, balanced: {percent(before)} before the game (validation pictures), "
        f"{percent(now)} now."
    )


def _task(results: Mapping[str, Any]) -> Iterator[Tile]:
    for task, figures in list(results["utility"].items()):
        if task == "gender" or "gender" not in results["utility"]:
            always = percent(figures.get("majority"))
            ends = interval(figures.get("ci95"))
            yield Tile(
                f"{task.capitalize()} read right",
                percent(figures["accuracy"]),
                f"95 % interval {ends}; always the most frequent class {always}",
            )
            return


def _restored(restoration: Mapping[str, Any]) -> Tile:
    if restoration["psnr_db"] is None:
        return Tile("Restored images", "none", restoration.get("reason") or "")
    return Tile(
        "Restored images, PSNR",
        decibel(restoration["psnr_db"]),
        f"the mean image instead: {decibel(restoration.get('mean_image_psnr_db'))}",
    )


def _epsilon(card: Mapping[str, Any]) -> Tile:
    released = [value for value in card["released"].values() if value is not None]
    if released:
        return Tile(
            "Epsilon of released weights",
            epsilon(max(released)),
            f"of all of them together, at delta {card['delta']:g}, for one picture; not of the "
            "features of a training picture",
        )
    if card["void"]:
        return Tile("Epsilon of released weights", "void", card["void"])
    conditional = card["conditional"]
    alone = (
        f"; the conditional {epsilon(conditional)} at delta {card['delta']:g} is of the "
        "discriminator's updates alone, given the encoder's course, and protects nobody in the "
        "training set by itself"
        if conditional is not None
        else ""
    )
    return Tile("Epsilon of released weights", "none", f"no released weight has one{alone}")


def _membership(audit: Mapping[str, Any] | None) -> Tile:
    title = "Membership of a picture in the training set"
    if not audit or not (audit.get("membership") or {}).get("strongest"):
        return Tile(title, _HIDDEN, "an audit tries membership inference")
    worst = worst_attack(audit)
    if not worst:
        return Tile(title, _HIDDEN, same_people_note(audit))
    figures = worst.figures
    left = unshown(audit)
    weak = f"; {left}" if left else ""
    by = f"by {attack_name(figures)}, the highest of {worst.num_attacks} attacks"
    rates = list(caught(figures))
    if not rates:
        return Tile(title, f"AUC {auc_text(figures)}", f"{by}; chance 0.5{weak}")
    false, true, ends = rates[-1]
    return Tile(
        title,
        true,
        f"found at {false} false positives ({ends}); AUC {auc_text(figures)}; {by}{weak}",
    )
