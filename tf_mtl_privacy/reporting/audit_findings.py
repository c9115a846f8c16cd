"""What an audit found, in words: (what was attacked, what came of it)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.reporting.formats import decibel, interval, percent

TARGETS = {
    "business": "the classifier's answers",
    "features": "the features",
    "release": "all that is released",
}


def audit_findings(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, finding) of membership inference, inversion and the test of the claimed epsilon.

    Args:
        audit: the content of audit.json. What it has not done is left out, see `audit_gaps`.
    """
    return [*_membership(audit), *_inversion(audit), *_epsilon(audit)]


def audit_gaps(audit: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, why) of all that an audit did not do."""
    return [(part["what"], part["why"]) for part in audit.get("not_done") or ()]


def same_people_note(audit: Mapping[str, Any]) -> str:
    """A sentence where members can be told from others without any model; else empty."""
    check = ((audit.get("membership") or {}).get("data") or {}).get("same_distribution")
    if not check or check["ok"]:
        return ""
    return (
        f"Members and others differ without any model (AUC {auc_text(check)}), so figures of "
        "membership inference say nothing here."
    )


def auc_text(figures: Mapping[str, Any], name: str = "auc") -> str:
    """An area under a curve with its interval: `0.512 (0.498–0.526)`."""
    ends = figures.get(f"{name}_ci95") or figures.get("ci95")
    shown = f"{figures[name]:.3f}"
    return f"{shown} ({ends[0]:.3f}–{ends[1]:.3f})" if ends else shown


def caught(figures: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(false positive rate, true positive rate, its interval) of each rate that was measured."""
    for rate, found in sorted(figures["tpr_at_fpr"].items(), key=lambda pair: float(pair[0])):
        if found["value"] is not None:
            shown = percent(float(rate), 1).replace(".0 ", " ")
            yield shown, percent(found["value"]), interval(found["ci95"])


def attack_name(strongest: Mapping[str, Any]) -> str:
    """The attack and what it was made on, in words."""
    target = TARGETS.get(strongest["target"], strongest["target"])
    return f"{strongest['attack'].replace('_', ' ')} on {target}"


def _membership(audit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    membership = audit.get("membership") or {}
    best, power = membership.get("strongest"), membership.get("power")
    if best:
        what = f"whether a picture was trained on (strongest attack: {attack_name(best)})"
        yield what, _found(best)
    if power:
        yield f"{power_name(power)} ({attack_name(power)})", _found(power)


def _found(figures: Mapping[str, Any]) -> str:
    rates = "".join(
        f"; finds {tpr} ({ends}) of the training pictures at {fpr} false alarms"
        for fpr, tpr, ends in caught(figures)
    )
    return f"AUC {auc_text(figures)}, a guess 0.5{rates}"


def power_name(power: Mapping[str, Any]) -> str:
    """The run that is attacked to show that attacks can find something."""
    return f"to show the attacks' power, the run {power['run_dir']}"


def _inversion(audit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = audit.get("inversion")
    if found:
        mean = found["mean_image"]
        yield (
            "the picture itself, by a decoder that an attacker trains on other people's features",
            f"PSNR {decibel(found['psnr_db'])}, SSIM {found['ssim']:.3f} (the mean image: "
            f"{decibel(mean['psnr_db'])}, {mean['ssim']:.3f}); the right one is found by it in "
            f"{percent(found['retrieval_rank1'])} ({interval(found['retrieval_rank1_ci95'])}) of "
            f"{found['images']:,} pictures, by a guess in {percent(found['chance'], 2)}",
        )


def _epsilon(audit: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    found = audit.get("dp_audit")
    if found:
        yield "the claimed epsilon, by canaries", found["text"]
