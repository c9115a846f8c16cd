"""Audits a finished run or an exported model: attacks it and writes audit.json.

docs/audit.md describes audit.json and each attack.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tf_mtl_privacy.config import (
    AUDIT_FILE,
    AUDIT_FOLDER,
    CONFIG_FILE,
    RESULTS_FILE,
    DataConfig,
)
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.audit import DEFAULT_SHADOWS
from tf_mtl_privacy.evaluation.audit.parts import (
    Audited,
    attribute_part,
    contradiction_parts,
    epsilon_part,
    expected_seconds,
    inversion_part,
    membership_part,
    shadow_count,
)
from tf_mtl_privacy.evaluation.audit.reference_run import power_part
from tf_mtl_privacy.evaluation.schema import (
    AUDIT_VERSION,
    Audit,
    Leakage,
    Results,
    read_results,
    write_audit,
    write_results,
)
from tf_mtl_privacy.files import check_writable, private_dir
from tf_mtl_privacy.reporting.formats import duration, show
from tf_mtl_privacy.reporting.reconcile_probes import audit_is_of, leakage

if TYPE_CHECKING:
    from tf_mtl_privacy.training.saved_run import SavedRun

_UNFINISHED = "unfinished.json"


def audit_run(
    run_dir: str | os.PathLike[str],
    setting: str = "fast",
    *,
    shadows: int = DEFAULT_SHADOWS,
    rows: int = 0,
    overfit_reference_run: str = "",
    data: DataConfig | None = None,
    output: str | os.PathLike[str] = "",
) -> Audit:
    """Audits a finished run, writes the result, and returns it.

    Partial results are saved in `audit/unfinished.json` in the run's folder.

    Args:
        run_dir: the run's folder.
        setting: "fast" or "thorough".
        shadows: shadow models of the whole run, see `--shadows`.
        rows: maximum number of members, and of non-members; 0 means the setting's.
        overfit_reference_run: folder of an overfitted run that was audited, or empty.
        data: the run's own data if it has moved; by default where training found it.
        output: the file to write; by default audit.json in the run's folder.

    Returns:
        The content of audit.json; docs/audit.md describes it.

    Raises:
        UsageError: the folder has no finished run, or the data is not the run's own.
        RunError: a file cannot be read or written.
    """
    from tf_mtl_privacy.data.opening import open_dataset
    from tf_mtl_privacy.evaluation.membership.verdict import verdict
    from tf_mtl_privacy.evaluation.probes.saved import networks, weights_digest
    from tf_mtl_privacy.evaluation.train_test_overlap import own_dataset
    from tf_mtl_privacy.training.private_updates import with_bounded_people
    from tf_mtl_privacy.training.saved_run import load_run

    run = load_run(run_dir)
    private_dir(run_dir, tighten=(CONFIG_FILE,))
    path = Path(output or Path(run_dir) / AUDIT_FILE)
    check_writable(path)
    weights = weights_digest(networks(run))
    power = power_part(overfit_reference_run, run.config, weights, setting)
    used = data or run.config.data
    opened = open_dataset(used)
    if own_dataset(run.config.data, run.data_fingerprint, used, opened) is not opened:
        raise UsageError(
            f"--dataset={used.dataset}: not the data that the run was trained on, so its members "
            "are not known; leave the data flags out"
        )
    audited = Audited(run, with_bounded_people(run.config, opened), used, setting, rows, [])
    seconds = (run.status.get("training") or {}).get("seconds")
    count, reason = shadow_count(shadows, setting, seconds)
    if not count:
        audited.leave_out("lira_offline, lira_online", reason)
    if setting == "thorough":
        _announce_duration(run, audited, count)
    membership = membership_part(audited, count)
    judged = verdict(membership.summary, power)
    audit: dict[str, Any] = {
        **_about(
            run.config.to_dict(), run.config.train.seed, setting, Path(run_dir).resolve().name
        ),
        "weights": weights,
        "membership": {**membership.summary, "power": power, **judged},
        "dp_audit": epsilon_part(audited),
        "not_done": audited.not_done,
    }
    audit |= contradiction_parts(audited, membership, judged["verdict"], audit["dp_audit"])
    unfinished = private_dir(Path(run_dir) / AUDIT_FOLDER) / _UNFINISHED
    write_audit(unfinished, audit)
    audit["attributes"] = attribute_part(audited)
    write_audit(unfinished, audit)
    audit["inversion"] = inversion_part(audited)
    write_audit(path, audit)
    unfinished.unlink()
    _raise_leakage(Path(run_dir), cast(Audit, audit))
    return cast(Audit, audit)


def audit_exported(
    saved_model: str,
    data: DataConfig,
    setting: str = "fast",
    *,
    rows: int = 0,
    output: str | os.PathLike[str] = "",
) -> Audit:
    """Audits an exported SavedModel through its signatures, writes the result, and returns it.

    Args:
        saved_model: its folder, or the folder of its numbered versions.
        data: training rows are the members, test rows the non-members.
        setting: "fast" or "thorough".
        rows: maximum number of members, and of non-members; 0 means the setting's.
        output: the file to write; by default audit.json beside the versions.

    Returns:
        The content of audit.json; `not_done` lists what cannot be done from outside.
    """
    from tf_mtl_privacy.evaluation.membership.saved import attack_exported
    from tf_mtl_privacy.evaluation.membership.verdict import verdict

    path = Path(output) if output else None
    if path:
        check_writable(path)
    summary, not_done, folder = attack_exported(saved_model, data, setting, rows)
    audit: dict[str, Any] = {
        **_about({"data": dataclasses.asdict(data)}, None, setting, folder.parent.name),
        "weights": None,
        "membership": {**summary, **verdict(summary, None)},
        **dict.fromkeys(("attributes", "inversion", "dp_audit")),
        "not_done": not_done,
        "contradictions": [],
        "contradictions_withheld": [],
    }
    write_audit(path or folder.parent / AUDIT_FILE, audit)
    return cast(Audit, audit)


def _about(config: dict[str, Any], seed: int | None, setting: str, name: str) -> dict[str, Any]:
    from tf_mtl_privacy.reporting.results import environment

    about = {"schema_version": AUDIT_VERSION, "setting": setting, "run_dir": name}
    return {**about, "seed": seed, "config": config, **environment()}


def results_of(run_dir: Path, audit: Audit) -> Results | None:
    """Reads results.json; None if it is missing or belongs to other weights than the audit."""
    path = run_dir / RESULTS_FILE
    results = read_results(path) if path.exists() else None
    return results if results and audit_is_of(results, audit) else None


def _raise_leakage(run_dir: Path, audit: Audit) -> None:
    """Updates `privacy.leakage` of results.json with the audit's findings.

    This can only raise a figure. Without it, results.json would state less leakage than is known.
    """
    results = results_of(run_dir, audit)
    if results and results.get("privacy"):
        combined = cast("Leakage | None", leakage(results, audit))
        if combined != results["privacy"].get("leakage"):
            results["privacy"]["leakage"] = combined
            write_results(run_dir / RESULTS_FILE, results)


def _announce_duration(run: SavedRun, audited: Audited, shadows: int) -> None:
    seconds = expected_seconds(run, audited.dataset, shadows, audited.rows)
    time = "an unknown time" if seconds is None else f"about {duration(seconds)}"
    show(
        f"A thorough audit of this run takes {time} on a machine like the one that trained it "
        f"({shadows} shadow models). Press Ctrl-C to stop; finished shadow models and attackers "
        "are saved, and the same command continues with them."
    )
