"""Another run's audit, which is to show that the attacks of this one have power."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tf_mtl_privacy.config import AUDIT_FILE, Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.membership.verdict import shows_power
from tf_mtl_privacy.files import read_json

_WHAT = "the audit of an overfitted run of the same networks"


def power_part(folder: str, config: Config, weights: str, setting: str) -> dict[str, Any] | None:
    """The strongest attack of another run's audit.json, with the run's name; None without one.

    Args:
        folder: of the other run, or empty.
        config: of the run that is audited now.
        weights: digest of its weights.
        setting: how hard its attackers try.

    Raises:
        UsageError: the folder has no such file, or what it has shows nothing of these attacks: the
            audit of these very weights, of other networks, or in another setting.
    """
    if not folder:
        return None
    try:
        found = read_json(Path(folder) / AUDIT_FILE)
        best, data = found["membership"]["strongest"], found["membership"]["data"]
        other, own = found["config"]["model"], config.to_dict()["model"]
        is_itself, how = found["weights"] == weights, found["setting"]
        # What of it will be read is there.
        shows_power(best)
    except (RunError, KeyError, TypeError) as error:
        raise UsageError(
            f"--power_run={folder}: expected the folder of a run that was audited ({error})"
        ) from error
    if is_itself:
        raise UsageError(f"--power_run={folder}: is this run itself; give {_WHAT}")
    if how != setting:
        raise UsageError(
            f"--power_run={folder}: was audited with --setting={how}, which says nothing "
            f"of --setting={setting}; audit both alike"
        )
    for name, value in own.items():
        if other.get(name) != value:
            raise UsageError(
                f"--power_run={folder}: has --{name}={other.get(name)}, this run --{name}={value}; "
                f"give {_WHAT}"
            )
    return {"run_dir": found["run_dir"], "data": data, **best}
