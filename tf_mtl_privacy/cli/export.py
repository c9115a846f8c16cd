"""Command `export`: writes a trained run as a model version for TensorFlow Serving."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.cli.options import DEFAULT_RUN_DIR, CommonOptions, Parsed
from tf_mtl_privacy.config import AUDIT_FILE, RESULTS_FILE
from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import OK, UsageError
from tf_mtl_privacy.tf_loading import load_tensorflow

if TYPE_CHECKING:
    from tf_mtl_privacy.export.device_files import ConvertedRun
    from tf_mtl_privacy.export.exporting import Exported
    from tf_mtl_privacy.training.saved_run import SavedRun


@dataclasses.dataclass(frozen=True)
class ExportOptions(CommonOptions):
    """Options of `export`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the trained run.")
    export_dir: str = option(
        "",
        "The model's folder; each version is a numbered folder inside it. It is made if missing.",
    )
    version: int = option(0, "Number of the version; 0 means the next free one.", low=0)
    name: str = option("faces", "The model's name in requests.")
    include_discriminator: bool = option(
        False,
        "Also export the discriminator of a run without a mask; the map of sensitive regions "
        "needs it.",
    )
    tflite: str = option(
        "none",
        "Also write a TensorFlow Lite file that predicts the attributes on devices, with its "
        "accuracy on test rows beside the run's.",
        choices=("none", "float16", "int8"),
    )
    onnx: bool = option(
        False,
        "Also write an ONNX file that predicts the attributes, with its accuracy on test rows "
        "beside the run's; needs the packages of pip install '.[onnx]'.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.export_dir.strip():
            raise UsageError(
                f"--export_dir={self.export_dir}: expected a folder, to which the model is written"
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise UsageError(
                f"--name={self.name}: expected letters, digits, _ and - only (it is part of "
                "addresses and paths)"
            )


def main(parsed: Parsed) -> int:
    """Exports the run and prints what was written."""
    options: ExportOptions = parsed.options
    card = _card(Path(options.run_dir))
    load_tensorflow()
    from tf_mtl_privacy.export.exporting import export_run
    from tf_mtl_privacy.reporting.formats import show
    from tf_mtl_privacy.training.saved_run import load_run

    run = load_run(options.run_dir)
    kinds = [options.tflite] * (options.tflite != "none") + ["onnx"] * options.onnx
    # Conversion comes first: if it fails, no version has been published yet.
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
        from tf_mtl_privacy.export.device_files import write_device_file

        folder, version = Path(options.export_dir), exported.labels["version"]
        for file in made:
            show(_device_lines(*write_device_file(file, folder, version)))
    return OK


def _made(run: SavedRun, kinds: Sequence[str]) -> list[ConvertedRun]:
    """Returns the run's device files; all requirements are checked before the first is made."""
    from tf_mtl_privacy.data.opening import open_dataset
    from tf_mtl_privacy.export.device_files import check_dataset, check_run, convert_run

    for kind in kinds:
        check_run(run, kind)
    dataset = open_dataset(run.config.data)
    for kind in kinds:
        check_dataset(run, dataset, kind)
    return [convert_run(run, dataset, kind) for kind in kinds]


def _card(run_dir: Path) -> dict[str, Any]:
    """Returns the run's privacy card, made from its results and, if audited, its audit."""
    from tf_mtl_privacy.evaluation.schema import read_audit, read_results
    from tf_mtl_privacy.reporting.privacy_card import privacy_card

    path = run_dir / RESULTS_FILE
    if not path.exists():
        raise UsageError(
            f"--run_dir={run_dir}: has no {RESULTS_FILE}, which the privacy card needs; run "
            f"python -m tf_mtl_privacy.evaluate --run_dir={run_dir} first"
        )
    return privacy_card(read_results(path), read_audit(run_dir / AUDIT_FILE))


def _summary(exported: Exported, card: dict[str, Any]) -> str:
    from tf_mtl_privacy.serving_signature import OUTPUTS_OF_TASK

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
        lines.append("  The features carry noise: answers differ from call to call.")
    if exported.not_overwritten:
        lines.append(f"  Left unchanged: {', '.join(exported.not_overwritten)}")
    lines.append(f"Privacy: {card['summary']}")
    return "\n".join(lines)


def _device_lines(path: Path, report: dict[str, Any]) -> str:
    from tf_mtl_privacy.reporting.formats import percent

    lines = [f"For devices: {path} ({report['bytes'] / 2**10:,.0f} KiB)"]
    for task, figures in report["tasks"].items():
        device, original = (percent(figures[name]["accuracy"]) for name in ("device", "original"))
        lines.append(
            f"  {task}: accuracy {device} on {report['rows']} test pictures, original model "
            f"{original}; same prediction on {percent(figures['agreement'])}"
        )
    lines.append(f"  {report['privacy']}")
    return "\n".join(lines)
