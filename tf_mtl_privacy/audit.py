"""Attacks a finished run and says what came of it: `python -m tf_mtl_privacy.audit --run_dir=...`.

docs/audit.md describes audit.json and each attack.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tf_mtl_privacy import cli
from tf_mtl_privacy.config import (
    AUDIT_FILE,
    AUDIT_FOLDER,
    CONFIG_FILE,
    RESULTS_FILE,
    DataConfig,
)
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.audit import DEFAULT_SHADOWS
from tf_mtl_privacy.evaluation.audit.duration import expected_seconds
from tf_mtl_privacy.evaluation.audit.inversion_part import inversion_part
from tf_mtl_privacy.evaluation.audit.parts import (
    Audited,
    attribute_part,
    contradiction_parts,
    epsilon_part,
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
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.prepare import check_source
from tf_mtl_privacy.reporting.audit_lines import audit_table
from tf_mtl_privacy.reporting.formats import duration, show
from tf_mtl_privacy.reporting.reconcile_probes import audit_is_of, leakage
from tf_mtl_privacy.verbs.audit import AuditOptions

if TYPE_CHECKING:
    from tf_mtl_privacy.training.saved_run import SavedRun

_UNFINISHED = "unfinished.json"


def audit_run(
    run_dir: str | os.PathLike[str],
    setting: str = "fast",
    *,
    shadows: int = DEFAULT_SHADOWS,
    rows: int = 0,
    power_run: str = "",
    data: DataConfig | None = None,
    output: str | os.PathLike[str] = "",
) -> Audit:
    """Audits a finished run, writes the result and returns it.

    What is finished stands in `audit/unfinished.json` of the run's folder until all of it is.

    Args:
        run_dir: the run's folder.
        setting: "fast" or "thorough".
        shadows: shadow models of the whole run, see `--shadows`.
        rows: most members and non-members; 0 means the setting's.
        power_run: folder of an overfitted run that was audited, or empty.
        data: the run's own data where it has moved; by default where the run found it.
        output: the file; audit.json in the run's folder by default.

    Returns:
        The content of audit.json; docs/audit.md describes it.

    Raises:
        UsageError: the folder is not that of a finished run, or the data is not the run's own.
        RunError: something cannot be read or written.
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
    power = power_part(power_run, run.config, weights, setting)
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
        _say_how_long(run, audited, count)
    found = membership_part(audited, count)
    worth = verdict(found.summary, power)
    audit: dict[str, Any] = {
        **_about(
            run.config.to_dict(), run.config.train.seed, setting, Path(run_dir).resolve().name
        ),
        "weights": weights,
        "membership": {**found.summary, "power": power, **worth},
        "dp_audit": epsilon_part(audited),
        "not_done": audited.not_done,
    }
    audit |= contradiction_parts(audited, found, worth["verdict"], audit["dp_audit"])
    unfinished = private_dir(Path(run_dir) / AUDIT_FOLDER) / _UNFINISHED
    write_audit(unfinished, audit)
    audit["attributes"] = attribute_part(audited)
    write_audit(unfinished, audit)
    audit["inversion"] = inversion_part(audited)
    write_audit(path, audit)
    unfinished.unlink()
    whole = cast(Audit, audit)
    _raise_leakage(Path(run_dir), whole)
    return whole


def audit_exported(
    saved_model: str,
    data: DataConfig,
    setting: str = "fast",
    *,
    rows: int = 0,
    output: str | os.PathLike[str] = "",
) -> Audit:
    """Audits an exported SavedModel from outside: what its signatures give away.

    Args:
        saved_model: its folder, or that of its numbered versions.
        data: training rows are the members, test rows the non-members.
        setting: "fast" or "thorough".
        rows: most members and non-members; 0 means the setting's.
        output: the file; audit.json beside the versions by default.

    Returns:
        The content of audit.json; `not_done` says what cannot be done from outside.
    """
    from tf_mtl_privacy.evaluation.membership.exported import attack_exported
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


def main(parsed: Parsed) -> int:
    """Audits, prints a table, and answers 3 where a claim is contradicted."""
    options: AuditOptions = parsed.options
    check_source(parsed.data)
    cli.load_tensorflow()
    if options.saved_model:
        audit = audit_exported(
            options.saved_model,
            parsed.data,
            options.setting,
            rows=options.rows,
            output=options.output,
        )
    else:
        audit = audit_run(
            options.run_dir,
            options.setting,
            shadows=options.shadows,
            rows=options.rows,
            power_run=options.power_run,
            data=parsed.other_data,
            output=options.output,
        )
    known = None if options.saved_model else _results_of(Path(options.run_dir), audit)
    show(audit_table(audit, known))
    return cli.CONTRADICTED if audit["contradictions"] else cli.OK


def _about(config: dict[str, Any], seed: int | None, setting: str, name: str) -> dict[str, Any]:
    from tf_mtl_privacy.reporting.environment import environment

    about = {"schema_version": AUDIT_VERSION, "setting": setting, "run_dir": name}
    return {**about, "seed": seed, "config": config, **environment()}


def _results_of(run_dir: Path, audit: Audit) -> Results | None:
    """Reads results.json; None where it is missing or not of the audited weights."""
    path = run_dir / RESULTS_FILE
    results = read_results(path) if path.exists() else None
    return results if results and audit_is_of(results, audit) else None


def _raise_leakage(run_dir: Path, audit: Audit) -> None:
    """Brings what the audit's attackers read into `privacy.leakage` of results.json.

    It can only raise a figure there; without this, results.json would go on stating less.
    """
    results = _results_of(run_dir, audit)
    if results and results.get("privacy"):
        found = cast("Leakage | None", leakage(results, audit))
        if found != results["privacy"].get("leakage"):
            results["privacy"]["leakage"] = found
            write_results(run_dir / RESULTS_FILE, results)


def _say_how_long(run: SavedRun, audited: Audited, shadows: int) -> None:
    seconds = expected_seconds(run, audited.dataset, shadows, audited.rows)
    time = (
        "a time that its folder does not tell" if seconds is None else f"about {duration(seconds)}"
    )
    show(
        f"A thorough audit of this run takes {time} on a machine like the one that trained it "
        f"({shadows} shadow models). Ctrl-C stops it; shadow models and fresh attackers that are "
        "finished are kept for the next call of the same command."
    )


if __name__ == "__main__":
    cli.run("audit", main)
