"""Options of `audit`."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.audit import DEFAULT_SHADOWS
from tf_mtl_privacy.verbs.common import DEFAULT_RUN_DIR, CommonOptions

_FEWEST = 4


@dataclasses.dataclass(frozen=True)
class AuditOptions(CommonOptions):
    """Options of `audit`."""

    run_dir: str = option(
        DEFAULT_RUN_DIR, "Folder of the trained run; audit.json is written there."
    )
    setting: str = option(
        "fast",
        "How hard attackers try: 'fast' takes minutes on two cores, 'thorough' says first how long "
        "it will take.",
        choices=("fast", "thorough"),
    )
    shadows: int = option(
        DEFAULT_SHADOWS,
        "Shadow models of the whole run for the likelihood-ratio attack, an even number of 4 or "
        "more; 0 means none, -1 what suits the run: 8 with --setting=thorough where training took "
        "at most 20 minutes, else none. An interrupted audit goes on with those that are there.",
        low=DEFAULT_SHADOWS,
    )
    rows: int = option(
        0, "Most members, and most non-members; 0 means as many as the setting has.", low=0
    )
    power_run: str = option(
        "",
        "Folder of an overfitted run of the same networks that was audited with the same "
        "--setting: its strongest attack is shown beside this run's, to tell that the attacks have "
        "power.",
    )
    saved_model: str = option(
        "",
        "Audit an exported SavedModel from outside instead of a run: its folder, or the folder of "
        "its versions. Training rows of --dataset in --data_dir are the members, test rows the "
        "non-members.",
    )
    output: str = option(
        "",
        "File to write; empty means audit.json in the run folder, or beside the SavedModel's "
        "versions.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        # With two, one model is all that is known of a row without it, and its spread is unknown.
        if self.shadows > 0 and (self.shadows % 2 or self.shadows < _FEWEST):
            raise UsageError(f"--shadows={self.shadows}: expected 0 or an even number >= {_FEWEST}")
        if self.shadows > 0 and self.saved_model:
            raise UsageError(
                f"--shadows={self.shadows}: shadows are trained as the run was; leave it out with "
                "--saved_model"
            )

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        from tf_mtl_privacy.evaluation.probes.budget import PROBE_BUDGETS

        trains_shadows = self.shadows > 0 or (self.setting == "thorough" and self.shadows)
        parts = ["shadow models"] * bool(trains_shadows)
        parts += ["attackers of the private label"] * PROBE_BUDGETS[self.setting].kept
        if self.saved_model or not parts:
            return super().after_interrupt()
        return f"finished {' and '.join(parts)} are kept; the same command does the rest again"
