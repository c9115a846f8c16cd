"""Exports a trained run for TensorFlow Serving: `python -m tf_mtl_privacy.export`."""

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
    from tf_mtl_privacy.export.device_files import ConvertedRun
    from tf_mtl_privacy.export.exporting import Exported
    from tf_mtl_privacy.training.saved_run import SavedRun


def main(parsed: Parsed) -> int:
    """Exports the run and prints what was written."""
    options = parsed.options
    card = _card(Path(options.run_dir))

    # Loaded here, so that wrong flags are reported at once.
    cli.load_tensorflow()
    from tf_mtl_privacy.export.exporting import export_run
    from tf_mtl_privacy.training.saved_run import load_run

    run = load_run(options.run_dir)
    kinds = [options.tflite] * (options.tflite != "none") + ["onnx"] * options.onnx
    # Converted first, so that nothing is published if the conversion fails.
    converted = _converted(run, kinds) if kinds else []
    exported = export_run(
        run,
        options.export_dir,
        card,
        name=options.name,
        version=options.version,
        with_discriminator=options.include_discriminator,
    )
    show(_summary(exported, card))
    if converted:
        from tf_mtl_privacy.export.device_files import write_device_file

        folder, version = Path(options.export_dir), exported.labels["version"]
        for file in converted:
            show(_device_lines(*write_device_file(file, folder, version)))
    return cli.OK


def _converted(run: SavedRun, kinds: Sequence[str]) -> list[ConvertedRun]:
    """Converts the run to device files, after all checks."""
    from tf_mtl_privacy.data.opening import open_dataset
    from tf_mtl_privacy.export.device_files import check_dataset, check_run, convert_run

    for kind in kinds:
        check_run(run, kind)
    dataset = open_dataset(run.config.data)
    for kind in kinds:
        check_dataset(run, dataset, kind)
    return [convert_run(run, dataset, kind) for kind in kinds]


def _card(run_dir: Path) -> dict[str, Any]:
    """Builds the privacy card from the run's results and, if it was audited, its audit."""
    from tf_mtl_privacy.reporting.privacy_card import privacy_card
    from tf_mtl_privacy.reporting.run_figures import read_audit, read_results

    path = run_dir / RESULTS_FILE
    if not path.exists():
        raise UsageError(
            f"--run_dir={run_dir}: the privacy card needs {RESULTS_FILE}, which is missing; run "
            f"python -m tf_mtl_privacy.evaluate --run_dir={run_dir} first"
        )
    return privacy_card(read_results(path), read_audit(run_dir / AUDIT_FILE))


def _summary(exported: Exported, card: dict[str, Any]) -> str:
    labels = exported.labels
    lines = [f"Exported {labels['name']} version {labels['version']}: {exported.folder}"]
    tasks = [entry["task"] for entry in labels["tasks"]]
    attributes = {key(task) for task in tasks for key in OUTPUTS_OF_TASK}
    for signature, interface in labels["signatures"].items():
        outputs = {*interface["outputs"]}
        shown = [f"attributes ({', '.join(tasks)})"] if attributes & outputs else []
        shown += sorted(outputs - attributes)
        lines.append(f"  {signature}: {', '.join(interface['inputs'])} -> {', '.join(shown)}")
    for signature, reason in labels["missing_signatures"].items():
        lines.append(f"  no {signature}: {reason}")
    if labels["stochastic"]:
        lines.append("  The features carry noise, so answers differ from call to call.")
    if exported.not_overwritten:
        names = ", ".join(exported.not_overwritten)
        lines.append(f"  Not overwritten, because the content differs: {names}")
    lines.append(f"Privacy: {card['summary']}")
    return "\n".join(lines)


def _device_lines(path: Path, report: dict[str, Any]) -> str:
    lines = [f"Device file: {path} ({report['bytes'] / 2**10:,.0f} KiB)"]
    for task, result in report["tasks"].items():
        device, run = (percent(result[which]["accuracy"]) for which in ("device", "original"))
        lines.append(
            f"  {task}: accuracy {device} on {report['rows']} test pictures, {run} for the run; "
            f"same prediction for {percent(result['agreement'])}"
        )
    lines.append(f"  {report['privacy']}")
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run("export", main)
