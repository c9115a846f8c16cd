"""Finished runs as reports read them: their folder, results, audit, and the figures compared."""

from __future__ import annotations

import json
import os
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from tf_mtl_privacy.config import (
    AUDIT_FILE,
    CONFIG_FILE,
    METRICS_FILE,
    RESULTS_FILE,
    DataConfig,
)
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.intervals import balanced_accuracy_interval
from tf_mtl_privacy.evaluation.membership.verdict import INVALID
from tf_mtl_privacy.evaluation.probes.bounds import OPEN, RISING, UNCLEAR
from tf_mtl_privacy.evaluation.schema import Audit, Leakage, Results, read_audit, read_results
from tf_mtl_privacy.reporting.audit_findings import highest_rate, membership_verdict
from tf_mtl_privacy.reporting.formats import decibel, number, percent
from tf_mtl_privacy.reporting.reconcile_probes import audit_is_of, leakage, released_leakage

STATEMENT_FILE = "privacy.txt"
REPORT_FILE = "report.html"
EVERYTHING = "dp_scope_all"
# Model -> its name in the paper; the paper does not have the fifth.
MODELS = {
    "stl": "STL",
    "mtl_adv": "MTL-Adv",
    "mtl_dp": "MTL-DP",
    "mtl_adv_dp": "MTL-Adv-DP",
    EVERYTHING: "all by DP-SGD",
}
_FILES = {
    AUDIT_FILE: "the audit: membership inference, inversion, test of the claimed epsilon",
    CONFIG_FILE: "the configuration; train --config=FILE starts the same run again",
    STATEMENT_FILE: "the privacy statement, with that of tensorflow-privacy",
    METRICS_FILE: "figures of every epoch, one line each",
    "tensorboard": "curves, for tensorboard --logdir",
    REPORT_FILE: "report of an earlier result; python -m tf_mtl_privacy.report updates it",
    "predictions.csv": "predicted attributes of your images",
}


class ReportRun(NamedTuple):
    """A finished run.

    Attributes:
        folder: as given.
        results: content of results.json.
        figures: figures for comparisons.
        audit: content of audit.json, or None.
        metrics: lines of metrics.jsonl, one per epoch.
        restored: sheet of restored faces (PNG), or None.
        regions: sheet of sensitive regions (PNG), or None.
        lfw: content of the result on LFW, or None.
    """

    folder: Path
    results: Results
    figures: RunFigures
    audit: Audit | None
    metrics: list[dict[str, Any]]
    restored: bytes | None
    regions: bytes | None
    lfw: Results | None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.resolve().name

    @property
    def quoted(self) -> str:
        """The folder, quoted for a shell."""
        return shlex.quote(str(self.folder))

    @property
    def model(self) -> str:
        """A key of `MODELS`."""
        everything = (self.results.get("dp") or {}).get("scope") == "all"
        return EVERYTHING if everything else str(self.results["model"])

    @property
    def title(self) -> str:
        """The model's name in the paper."""
        return MODELS[self.model]

    @property
    def dataset(self) -> str:
        """The data set it was evaluated on."""
        return str((self.results.get("evaluated_on") or {}).get("dataset") or "unknown data")

    @property
    def is_synthetic(self) -> bool:
        """True for synthetic faces, which show no real person."""
        return self.dataset == DataConfig().dataset


def read_run(run_dir: str | os.PathLike[str], flag: str = "run_dir") -> ReportRun:
    """Reads a finished run.

    Raises:
        UsageError: the folder does not exist.
        RunError: it has no results.json, or a file is damaged or of another version.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise UsageError(f"--{flag}={run_dir}: no such folder; give the folder of a finished run")
    if not (folder / RESULTS_FILE).exists():
        raise RunError(
            f"{folder} has no {RESULTS_FILE}: finish training, or run python -m "
            f"tf_mtl_privacy.evaluate --run_dir={folder}"
        )
    results = read_results(folder / RESULTS_FILE)
    if results.get("model") not in MODELS:
        raise RunError(
            f"{folder / RESULTS_FILE}: model is {results.get('model')!r}; evaluate it again"
        )
    audit = read_audit(folder / AUDIT_FILE)
    restored, regions = picture_names(RESULTS_FILE)
    return ReportRun(
        folder,
        results,
        run_figures(results, audit),
        audit,
        _metrics(folder / METRICS_FILE),
        _bytes(folder / restored),
        _bytes(folder / regions),
        _lfw(folder),
    )


def command(name: str, run_dir: str, *flags: str) -> str:
    """A command on a run, to be copied; `run_dir` is quoted already."""
    return " ".join((f"python -m tf_mtl_privacy.{name} --run_dir={run_dir}", *flags))


def _metrics(path: Path) -> list[dict[str, Any]]:
    """Reads the lines of metrics.jsonl, without an unfinished last one left by a kill."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None


def _lfw(folder: Path) -> Results | None:
    """The latest result on LFW."""
    paths = sorted(folder.glob("results_lfw*.json"), key=lambda path: path.stat().st_mtime)
    return read_results(paths[-1]) if paths else None


def run_files(run_dir: str | os.PathLike[str], results_name: str = RESULTS_FILE) -> dict[str, str]:
    """Path -> description of the known files in a run folder, the result file first.

    Args:
        run_dir: the run's folder.
        results_name: the result file just written.
    """
    folder = Path(run_dir)
    restored, regions = picture_names(results_name)
    named = {
        results_name: "all figures",
        restored: "faces, and below each the image restored from its features",
        regions: "faces, and below each its sensitive region, the encoder's input, the restored "
        "image",
        **_FILES,
    }
    return {str(folder / name): what for name, what in named.items() if (folder / name).exists()}


def picture_names(results_name: str) -> tuple[str, str]:
    """File names of the sheets beside a result file: restored faces, sensitive regions."""
    stem = Path(results_name).stem
    restored, regions = (stem.replace("results", name, 1) for name in ("restored", "regions"))
    return f"{restored}.png", f"{regions}.png"


_TRENDS = {RISING: "still rises", UNCLEAR: "may still rise"}

# Reasons for a missing figure: the run has no such part, it was not measured, it does not hold.
NONE, NOT_MEASURED, VOID = "none", "not measured", "void"
RATE, DECIBEL, EPSILON, SECONDS = "rate", "decibel", "epsilon", "seconds"


class Source(NamedTuple):
    """The place of a figure in results.json.

    Attributes:
        title: a few words.
        unit: `RATE` (in [0, 1]), `DECIBEL`, `EPSILON` or `SECONDS`.
        path: keys (positions in lists), joined by dots.
        none_at: path at which a null means that the run has no such part; empty for none. A null
            elsewhere, or a missing key, means that it was not measured.
    """

    title: str
    unit: str
    path: str
    none_at: str = ""


_LEAKAGE = "privacy.leakage"
SOURCES = {
    "gender": Source("gender accuracy", RATE, "utility.gender.accuracy"),
    "age": Source("age accuracy", RATE, "utility.age.accuracy"),
    "expression_f1": Source("expression F1", RATE, "utility.expression.f1"),
    "psnr_db": Source("PSNR", DECIBEL, "restoration.psnr_db", "restoration.psnr_db"),
    "discriminator": Source(
        "in-loop discriminator",
        RATE,
        "privacy.discriminator.accuracy",
        "privacy.discriminator",
    ),
    "probe_features": Source("attacker on features", RATE, f"{_LEAKAGE}.features.accuracy"),
    "probe_features_high": Source("features, upper bound", RATE, f"{_LEAKAGE}.features.upper"),
    # A null here means that the model lacks the target; a target not attacked has no key.
    "probe_restored": Source("attacker on restored", RATE, *2 * [f"{_LEAKAGE}.restored.accuracy"]),
    "probe_restored_high": Source(
        "restored, upper bound", RATE, *2 * [f"{_LEAKAGE}.restored.upper"]
    ),
    "probe_regions": Source("attacker on the mask", RATE, *2 * [f"{_LEAKAGE}.regions.accuracy"]),
    "probe_regions_high": Source("mask, upper bound", RATE, *2 * [f"{_LEAKAGE}.regions.upper"]),
    "leakage": Source("leakage, worst target", RATE, f"{_LEAKAGE}.worst.accuracy"),
    "leakage_high": Source("worst, upper bound", RATE, f"{_LEAKAGE}.worst.upper"),
    "membership": Source("membership inference", RATE, "stop_rule.parts.membership.value"),
    "epsilon_conditional": Source(
        "epsilon, conditional",
        EPSILON,
        "dp.conditional.discriminator",
        "dp.conditional.discriminator",
    ),
    "epsilon_released": Source(
        "epsilon, released", EPSILON, "dp.released.encoder", "dp.released.encoder"
    ),
    "seconds": Source("training time", SECONDS, "training.seconds"),
}


class Figure(NamedTuple):
    """A number, or None and the reason (`NONE`, `NOT_MEASURED` or `VOID`)."""

    value: float | None
    absent: str = ""


class RunFigures(NamedTuple):
    """Figures of one run for comparisons.

    Attributes:
        figures: name in `SOURCES` -> its figure.
        label_access: accesses to the private label outside the accounting; None if unknown.
        underpowered: reasons why a low attacker accuracy may only mean weak attackers.
        refused: reasons why no bound on the attackers' accuracy is claimed.
        chance: of the private label, in [0, 1], or None.
        fingerprint: of the data, or empty.
        mask: see `mask_evidence`.
        membership: verdict on the audit's membership inference
            (`audit_findings.membership_verdict`); empty without an audit.
        void: reason why no epsilon of the private updates holds, or empty.
    """

    figures: dict[str, Figure]
    label_access: tuple[str, ...] | None
    underpowered: tuple[str, ...]
    chance: float | None
    fingerprint: str
    mask: str
    membership: str = ""
    refused: tuple[str, ...] = ()
    void: str = ""


def run_figures(results: Results, audit: Audit | None = None) -> RunFigures:
    """Extracts the figures of one run; a missing key gives a missing figure, never a guess.

    Args:
        results: content of results.json.
        audit: content of audit.json, or None; the audit of another run counts as None. Leakage is
            the worst of all known measurements (`reconcile_probes.leakage`); membership inference
            is the audit's if it has one, else the stop rule's.
    """
    if audit is not None and not audit_is_of(results, audit):
        audit = None
    found = leakage(results, audit)
    results = {
        **results,
        "privacy": {**(results.get("privacy") or {}), "leakage": cast("Leakage | None", found)},
    }
    figures = {name: _figure(results, source) for name, source in SOURCES.items()}
    dp = results.get("dp") or {}
    void = str(dp.get("void_reason") or "no reason is given") if dp.get("void") else ""
    if void:
        which = "epsilon_released" if dp.get("scope") == "all" else "epsilon_conditional"
        figures[which] = Figure(None, VOID)
    member = _membership(audit) if audit else None
    if member:
        figures["membership"] = member
    access = _walk(results, "dp.unaccounted_label_access")[0]
    return RunFigures(
        figures,
        None if access is None else tuple(access),
        tuple(_weakness(found)),
        _walk(results, "privacy.chance")[0],
        _walk(results, "evaluated_on.data_fingerprint")[0] or "",
        mask_evidence(results),
        membership_verdict(audit) if audit and member else "",
        tuple((found or {}).get("refused") or ()),
        void,
    )


def _weakness(found: Mapping[str, Any] | None) -> list[str]:
    """Lists the reasons why a low figure may only mean weak attackers."""
    if not found:
        return []
    reasons = list(found["underpowered_reasons"])
    if found["underpowered"] and not reasons:
        reasons = ["no reason given"]
    return reasons + [
        f"{words}: attacker accuracy {_TRENDS[part['trend']]} with more training rows"
        for words, part in released_leakage(found)
        if part["trend"] in OPEN
    ]


def _membership(audit: Audit) -> Figure | None:
    """Takes the highest of all attacks; None if the audit has no membership inference."""
    if not (audit.get("membership") or {}).get("strongest"):
        return None
    # The members differ from the non-members without any model, so no figure measures membership.
    if membership_verdict(audit) == INVALID:
        return Figure(None, NOT_MEASURED)
    rate = highest_rate(audit)
    return None if rate is None else Figure(rate[0])


def _figure(results: Results, source: Source) -> Figure:
    value, ended = _walk(results, source.path)
    if value is not None:
        return Figure(float(value))
    return Figure(None, NONE if ended and ended == source.none_at else NOT_MEASURED)


def _walk(results: Results, path: str) -> tuple[Any, str]:
    """Returns the value at `path`, or None and the path of the null on the way."""
    found: Any = results
    keys = path.split(".")
    for depth, key in enumerate(keys, start=1):
        try:
            found = found[int(key)] if isinstance(found, list) else found[key]
        except (KeyError, IndexError, TypeError, ValueError):
            return None, ""
        if found is None:
            return None, ".".join(keys[:depth])
    return found, path


def spread(figures: Iterable[Figure]) -> dict[str, Any]:
    """Mean and spread over runs.

    Returns:
        `values` (one per run, None if missing), `n` (how many are present), `mean`, `std` (sample
        standard deviation; None for fewer than two), `min`, `max`, and `absent`: the reason if all
        are missing, else None.
    """
    figures = list(figures)
    values = [figure.value for figure in figures]
    known = [value for value in values if value is not None]
    # If one run lacks the part and another was not measured, it may still be measured.
    absent = NONE if figures and all(f.absent == NONE for f in figures) else NOT_MEASURED
    if any(figure.absent == VOID for figure in figures):
        absent = VOID
    return {
        "values": values,
        "n": len(known),
        "mean": statistics.fmean(known) if known else None,
        "std": statistics.stdev(known) if len(known) > 1 else None,
        "min": min(known) if known else None,
        "max": max(known) if known else None,
        "absent": None if known else absent,
    }


def figure_text(unit: str, value: float, digits: int = 1) -> str:
    """A figure with its unit: `97.3 %`, `26.4 dB`, `0.5000`, `283 s`."""
    if unit == RATE:
        return percent(value, digits)
    if unit == DECIBEL:
        return decibel(value)
    return number(value) if unit == EPSILON else f"{value:,.0f} s"


NO_MASK, BLIND, READS, UNKNOWN = "no mask", "blind", "reads", "unknown"


def mask_evidence(results: Mapping[str, Any]) -> str:
    """Tells whether the mask or the adversarial game can explain a run's low leakage.

    A discriminator that stays at chance before, during and after the joint phase gives the encoder
    no gradient direction, so the mask alone removed the information (docs/removal.md).

    Returns:
        `NO_MASK`; `BLIND`: chance lies in or above the 95 % interval of the discriminator's
        balanced accuracy at the end of its pre-training (validation rows), in its best joint epoch
        (validation rows, Bonferroni-corrected for the number of epochs) and at the end (test rows);
        `READS`: chance lies below one of these intervals; `UNKNOWN`: a figure is missing, as in
        results of earlier versions.

    The intervals on validation rows assume balanced classes; otherwise they are too narrow, which
    errs towards `READS`.
    """
    if (results.get("removal") or {}).get("mask") != "learned":
        return NO_MASK
    privacy = results.get("privacy") or {}
    gate = (results.get("gates") or {}).get("discriminator") or {}
    before = (gate.get("value") or {}).get("privacy_balanced_accuracy")
    course = (results.get("training") or {}).get("in_loop") or {}
    most, epochs = course.get("most_balanced_accuracy"), course.get("epochs")
    rows = ((results.get("counts") or {}).get("rows") or {}).get("validation")
    after = (privacy.get("discriminator") or {}).get("ci95")
    chance = privacy.get("chance")
    if before is None or most is None or after is None or chance is None:
        return UNKNOWN
    if not rows or not epochs:
        return UNKNOWN
    lows = [_low(before, rows, chance, 1), _low(most, rows, chance, epochs), after[0]]
    return BLIND if max(lows) <= chance else READS


def _low(balanced: float, rows: int, chance: float, num_epochs: int) -> float:
    """Lower end of the interval of a balanced accuracy that is the largest of `num_epochs`."""
    classes = round(1 / chance)
    each = max(rows // classes, 1)
    confidence = 1 - 0.05 / num_epochs
    return balanced_accuracy_interval([balanced * each] * classes, [each] * classes, confidence)[0]


def mask_line(title: str, evidence: Sequence[str]) -> str:
    """Note on a model with a mask, for a table; empty if none of its runs has one.

    Args:
        title: of the model.
        evidence: `mask_evidence` of each of its runs.
    """
    masked = [found for found in evidence if found != NO_MASK]
    if not masked:
        return ""
    runs = "" if len(masked) == len(evidence) else " (in some of its runs)"
    if set(masked) == {BLIND}:
        return (
            f"{title} has a mask{runs}, and its discriminator stays at chance before, during and "
            "after the adversarial phase: the mask, not the adversarial game, explains the "
            "difference from models without one."
        )
    why = (
        "and its discriminator exceeds chance"
        if READS in masked
        else "and its discriminator's accuracy before or during the game is unknown"
    )
    return f"{title} has a mask{runs}, {why}: the effects of mask and game are not separated here."
