"""Writes a trained run for TensorFlow Serving: `python -m tf_mtl_privacy.export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy import cli
from tf_mtl_privacy.config import AUDIT_FILE, RESULTS_FILE
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.flags import Parsed
from tf_mtl_privacy.reporting.formats import percent, show
from tf_mtl_privacy.serving_signature import OUTPUTS_OF_TASK

if TYPE_CHECKING:
    from tf_mtl_privacy.export.device import Made
    from tf_mtl_privacy.export.exporting import Exported
    from tf_mtl_privacy.training.saved_run import SavedRun


def main(parsed: Parsed) -> int:
    """Exports the run and says what is where."""
    options = parsed.options
    card = _card(Path(options.run_dir))

    # Loaded here: wrong flags must be told before.
    cli.load_tensorflow()
    from tf_mtl_privacy.export.exporting import export_run
    from tf_mtl_privacy.training.saved_run import load_run

    run = load_run(options.run_dir)
    kinds = [options.tflite] * (options.tflite != "none") + ["onnx"] * options.onnx
    # Before the version is there: whatever cannot be converted is told while nothing is published.
    made = _made(run, kinds) if kinds else []
    exported = export_run(
        run,
        options.export_dir,
        card,
        name=options.name,
        version=options.version,
        with_discriminator=options.include_discriminator,
    )
    show(_summary(exported, card))
    if made:
        from tf_mtl_privacy.export.device import write_device

        folder, version = Path(options.export_dir), exported.labels["version"]
        for file in made:
            show(_device_lines(*write_device(file, folder, version)))
    return cli.OK


def _made(run: SavedRun, kinds: Sequence[str]) -> list[Made]:
    """The run's files for devices, with everything checked that they need."""
    from tf_mtl_privacy.data.opening import open_dataset
    from tf_mtl_privacy.export.device import check_device, check_run, make_device

    for kind in kinds:
        check_run(run, kind)
    dataset = open_dataset(run.config.data)
    for kind in kinds:
        check_device(run, dataset, kind)
    return [make_device(run, dataset, kind) for kind in kinds]


def _card(run_dir: Path) -> dict[str, Any]:
    """The run's privacy card, from its results and, where it was audited, its audit."""
    from tf_mtl_privacy.evaluation.schema import read_audit, read_results
    from tf_mtl_privacy.reporting.privacy_card import privacy_card

    path = run_dir / RESULTS_FILE
    if not path.exists():
        raise UsageError(
            f"--run_dir={run_dir}: has no {RESULTS_FILE}, from which the privacy card is made; run "
            f"python -m tf_mtl_privacy.evaluate --run_dir={run_dir} first"
        )
    return privacy_card(read_results(path), read_audit(run_dir / AUDIT_FILE))


def _summary(exported: Exported, card: dict[str, Any]) -> str:
    labels = exported.labels
    lines = [f"Exported {labels['name']} version {labels['version']}: {exported.folder}"]
    tasks = [entry["task"] for entry in labels["tasks"]]
    attributes = {key(task) for task in tasks for key in OUTPUTS_OF_TASK}
    for signature, interface in labels["signatures"].items():
        said = [f"attributes ({', '.join(tasks)})"] if attributes & {*interface["outputs"]} else []
        said += sorted({*interface["outputs"]} - attributes)
        lines.append(f"  {signature}: {', '.join(interface['inputs'])} -> {', '.join(said)}")
    for signature, why in labels["missing_signatures"].items():
        lines.append(f"  no {signature}: {why}")
    if labels["stochastic"]:
        lines.append("  The features carry noise: answers differ from call to call.")
    if exported.kept:
        lines.append(f"  Kept as they were: {', '.join(exported.kept)}")
    lines.append(f"Privacy: {card['summary']}")
    return "\n".join(lines)


def _device_lines(path: Path, report: dict[str, Any]) -> str:
    lines = [f"For devices: {path} ({report['bytes'] / 2**10:,.0f} KiB)"]
    for task, found in report["tasks"].items():
        here, there = (percent(found[which]["accuracy"]) for which in ("device", "original"))
        lines.append(
            f"  {task}: {here} of {report['rows']} test pictures right, {there} by the original; "
            f"both say the same of {percent(found['agreement'])}"
        )
    lines.append(f"  {report['privacy']}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run("export", main)
