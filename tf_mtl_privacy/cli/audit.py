"""Command `audit`: attacks a finished run or an exported model and writes audit.json."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tf_mtl_privacy.cli.options import DEFAULT_RUN_DIR, CommonOptions, Parsed, verbose_option
from tf_mtl_privacy.config import AUDIT_FILE
from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import CONTRADICTED, OK, UsageError
from tf_mtl_privacy.evaluation.audit import DEFAULT_SHADOWS
from tf_mtl_privacy.tf_loading import load_tensorflow

_MIN_SHADOWS = 4


@dataclasses.dataclass(frozen=True)
class AuditOptions(CommonOptions):
    """Options of `audit`."""

    run_dir: str = option(
        DEFAULT_RUN_DIR, "Folder of the trained run; audit.json is written there."
    )
    setting: str = option(
        "fast",
        "Effort of the attacks: 'fast' takes minutes on two cores, 'thorough' first estimates how "
        "long it will take.",
        choices=("fast", "thorough"),
    )
    shadows: int = option(
        DEFAULT_SHADOWS,
        "Shadow models of the whole run for the likelihood-ratio attack (LiRA): an even number of "
        "4 or more, 0 for none, or -1 to choose by the run: 8 with --setting=thorough if training "
        "took at most 20 minutes, else none. An interrupted audit reuses finished shadow models.",
        low=DEFAULT_SHADOWS,
    )
    rows: int = option(
        0,
        "Maximum number of members, and of non-members; 0 means the number of the --setting.",
        low=0,
    )
    overfit_reference_run: str = option(
        "",
        "Folder of an overfitted run of the same networks that was audited with the same "
        "--setting. Its strongest attack is shown beside this run's, as evidence that the attacks "
        "have power.",
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
    verbose: bool = verbose_option()

    def __post_init__(self) -> None:
        super().__post_init__()
        # With two shadows one model is trained without a given row: its spread is unknown.
        if self.shadows > 0 and (self.shadows % 2 or self.shadows < _MIN_SHADOWS):
            raise UsageError(
                f"--shadows={self.shadows}: expected 0 or an even number >= {_MIN_SHADOWS}"
            )
        if self.shadows > 0 and self.saved_model:
            raise UsageError(
                f"--shadows={self.shadows}: shadow models need the run's configuration; leave the "
                "flag out with --saved_model"
            )

    def after_interrupt(self) -> str:
        """See `CommonOptions`."""
        from tf_mtl_privacy.evaluation.probes.budget import PROBE_BUDGETS

        trains_shadows = self.shadows > 0 or (self.setting == "thorough" and self.shadows)
        saved = ["shadow models"] * bool(trains_shadows)
        saved += ["attackers of the private label"] * PROBE_BUDGETS[self.setting].kept
        if self.saved_model or not saved:
            return super().after_interrupt()
        return f"finished {' and '.join(saved)} are saved; rerun the same command to continue"


def main(parsed: Parsed) -> int:
    """Audits, prints a table, and returns 3 if a privacy claim is contradicted."""
    from tf_mtl_privacy.data.opening import check_source

    options: AuditOptions = parsed.options
    check_source(parsed.data)
    load_tensorflow()
    from tf_mtl_privacy.reporting.audit_run import audit_exported, audit_run, results_of
    from tf_mtl_privacy.reporting.formats import show
    from tf_mtl_privacy.reporting.sections.audit import audit_screen

    results, path = None, options.output
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
            overfit_reference_run=options.overfit_reference_run,
            data=parsed.other_data,
            output=options.output,
        )
        results = results_of(Path(options.run_dir), audit)
        path = path or str(Path(options.run_dir) / AUDIT_FILE)
    files = {path: "all results"} if path else {}
    show(audit_screen(audit, results, files, verbose=options.verbose))
    return CONTRADICTED if audit["contradictions"] else OK
