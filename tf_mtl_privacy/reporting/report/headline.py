"""The top of a report: the few figures that matter, and what they mean in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.reporting.attacker_lines import read_right
from tf_mtl_privacy.reporting.formats import count, decibel, duration, interval, percent
from tf_mtl_privacy.reporting.mask_evidence import BLIND, NO_MASK
from tf_mtl_privacy.reporting.membership_words import (
    attack_name,
    auc_text,
    caught,
    same_people_note,
    unshown,
)
from tf_mtl_privacy.reporting.privacy_card import private_name
from tf_mtl_privacy.reporting.privacy_lines import epsilon
from tf_mtl_privacy.reporting.report.document import Tile
from tf_mtl_privacy.reporting.report.run_folder import ReportRun

_HIDDEN = "not measured"


def tiles(run: ReportRun, card: Mapping[str, Any], probe: Mapping[str, Any] | None) -> list[Tile]:
    """Leak from pixels and from features, the first task, restored images, epsilon, membership.

    Args:
        run: the run.
        card: its privacy card.
        probe: what fresh attackers found, the readings that stand, or None.
    """
    return [
        _leak(run, probe),
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
            "The in-loop discriminator reads no more than a guess before and after the game, so "
            "what attackers no longer find, the mask took, not the game."
        )


def _leak(run: ReportRun, probe: Mapping[str, Any] | None) -> Tile:
    name = private_name(run.results)
    title = f"A fresh attacker reads {name}"
    best = ((probe or {}).get("features") or {}).get("strongest")
    if not probe or not best:
        return Tile(title, _HIDDEN, "no fresh attacker was sent")
    pixels = (probe.get("pixels") or {}).get("strongest")
    after, chance = read_right(best), percent(run.results["privacy"].get("chance"))
    weak = " The attackers were too weak for a claim." if probe.get("underpowered") else ""
    return Tile(
        title,
        f"{read_right(pixels)} → {after}" if pixels else after,
        f"{'from pixels → ' if pixels else ''}from features, up to {percent(best['ci95'][1])}; a "
        f"guess {chance}.{_before_game(probe, best)}{weak}",
    )


def _before_game(probe: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    """What was read of the features before the game: it is known balanced, so both ends are."""
    before = (probe.get("before_game") or {}).get("balanced_accuracy")
    if before is None:
        return ""
    return (
        f" Balanced: {percent(before)} before the game (validation pictures), "
        f"{percent(best['balanced_accuracy'])} now."
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
            f"of all of them together, at delta {card['delta']:g}, for one picture",
        )
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
    title = "Whether a picture was trained on"
    best = ((audit or {}).get("membership") or {}).get("strongest")
    if not audit or not best:
        return Tile(title, _HIDDEN, "an audit tries membership inference")
    if note := same_people_note(audit):
        return Tile(title, _HIDDEN, note)
    left = unshown(audit)
    weak = f"; {left}" if left else ""
    rates = list(caught(best))
    if not rates:
        return Tile(title, f"AUC {auc_text(best)}", f"{attack_name(best)}; a guess 0.5{weak}")
    false, true, ends = rates[-1]
    return Tile(
        title,
        true,
        f"found at {false} false alarms ({ends}); AUC {auc_text(best)}; {attack_name(best)}{weak}",
    )
