"""The section that says on what the run was made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.config.renamed import with_new_names
from tf_mtl_privacy.reporting.document import Block, Row, Table
from tf_mtl_privacy.reporting.formats import MISSING, count
from tf_mtl_privacy.reporting.run_folder import ReportRun


def provenance_blocks(run: ReportRun) -> Iterator[Block]:
    """Data, commit, versions, hardware; then the options that were chosen."""
    results = run.results
    rows = ((results.get("counts") or {}).get("rows") or {}).items()
    facts = {
        "run folder": run.name,
        "model": f"{run.title}, seed {results.get('seed', MISSING)}",
        "data": f"{run.dataset}, {', '.join(f'{count(n)} {name}' for name, n in rows)} pictures",
        "data fingerprint": run.figures.fingerprint[:16] or MISSING,
        "commit": _commit(results.get("commit")),
        "versions": ", ".join(
            f"{name} {v}" for name, v in (results.get("versions") or {}).items() if v
        ),
        "hardware": _hardware(results.get("hardware") or {}),
    }
    lines = tuple(Row(pair) for pair in facts.items())
    yield Table("Where these figures come from", ("", "value"), lines)
    usual = Config().to_dict()
    options = tuple(
        Row((f"--{name}", str(value)))
        for section, values in with_new_names(results.get("config") or {}).items()
        for name, value in values.items()
        if value != (usual.get(section) or {}).get(name)
    )
    if options:
        caption = "Options that are not the usual ones; the rest is in config.json"
        yield Table(caption, ("option", "value"), options)


def _commit(commit: Mapping[str, Any] | None) -> str:
    if not commit:
        return "not known"
    return str(commit["hash"])[:12] + (", with changes" if commit["dirty"] else "")


def _hardware(hardware: Mapping[str, Any]) -> str:
    if not hardware:
        return MISSING
    accelerators = ", ".join(hardware.get("accelerators") or ()) or "no accelerator"
    return (
        f"{hardware['cores']} cores of {hardware['cpu']}, {hardware['memory_gib']} GiB, "
        f"{accelerators}"
    )
