"""The audit of an overfitted reference run, which shows that membership attacks have power."""

from __future__ import annotations

from pathlib import Path

from tf_mtl_privacy.config import AUDIT_FILE, Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.membership.verdict import shows_power
from tf_mtl_privacy.evaluation.schema import ReferenceRun, read_audit

_WANTED = "the folder of an audited, overfitted run of the same networks"


def power_part(folder: str, config: Config, weights: str, setting: str) -> ReferenceRun | None:
    """Returns the strongest attack of another run's audit.json, with the run's name.

    Args:
        folder: of the other run; empty returns None.
        config: of the run under audit.
        weights: digest of its weights.
        setting: its audit's setting.

    Raises:
        UsageError: the folder has no audit.json, or it is of the same weights, of other networks,
            or of another setting.
    """
    if not folder:
        return None
    flag = f"--overfit_reference_run={folder}"
    try:
        audit = read_audit(Path(folder) / AUDIT_FILE)
        if audit is None:
            raise RunError(f"cannot read {Path(folder) / AUDIT_FILE}")
        best, data = audit["membership"]["strongest"], audit["membership"]["data"]
        other, own = audit["config"]["model"], config.to_dict()["model"]
        is_itself, audited_with = audit["weights"] == weights, audit["setting"]
        # Raises KeyError where a figure that the verdict reads is missing.
        shows_power({**best, "run_dir": audit["run_dir"]})
    except (RunError, KeyError, TypeError) as error:
        raise UsageError(f"{flag}: expected the folder of an audited run ({error})") from error
    if is_itself:
        raise UsageError(f"{flag}: is the run under audit; give {_WANTED}")
    if audited_with != setting:
        raise UsageError(
            f"{flag}: was audited with --setting={audited_with}; audit both runs with "
            f"--setting={setting}"
        )
    for name, value in own.items():
        if other.get(name) != value:
            raise UsageError(
                f"{flag}: has --{name}={other.get(name)}, this run --{name}={value}; give {_WANTED}"
            )
    return {"run_dir": audit["run_dir"], "data": data, **best}
