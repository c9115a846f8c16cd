"""Options of `export`."""

from __future__ import annotations

import dataclasses
import re

from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.verbs.common import DEFAULT_RUN_DIR, CommonOptions


@dataclasses.dataclass(frozen=True)
class ExportOptions(CommonOptions):
    """Options of `export`."""

    run_dir: str = option(DEFAULT_RUN_DIR, "Folder of the trained run.")
    export_dir: str = option(
        "", "The model's folder, in which each version is a folder with a number; made if missing."
    )
    version: int = option(0, "Number of the version; 0 means the next free one.", low=0)
    name: str = option("faces", "The model's name, by which clients ask for it.")
    include_discriminator: bool = option(
        False,
        "Also export the discriminator of a run without a mask, whose map of sensitive regions "
        "needs it.",
    )
    tflite: str = option(
        "none",
        "Also write a TensorFlow Lite file of the attributes for devices, with its accuracy on "
        "test rows beside the run's.",
        choices=("none", "float16", "int8"),
    )
    onnx: bool = option(
        False,
        "Also write an ONNX file of the attributes, with its accuracy on test rows beside the "
        "run's; needs the packages of pip install '.[onnx]'.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.export_dir.strip():
            raise UsageError(
                f"--export_dir={self.export_dir}: expected a folder (to write the model to)"
            )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", self.name):
            raise UsageError(
                f"--name={self.name}: expected letters, digits, _ and - only (it is part of "
                "addresses and paths)"
            )
