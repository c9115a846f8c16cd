"""Runs the notebooks and saves their outputs: `python -m tests.notebooks`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
TIMEOUT = 600


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Runs a notebook from top to bottom; removes outputs that differ between runs.

    Args:
        path: the notebook, which is not changed.
        folder: an empty folder to run in.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    # The kernel is a separate process, which must find this checkout first and log little.
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
    }
    with tempfile.TemporaryDirectory() as sockets:
        # Sockets in the file system open no port; their folder's name must be short.
        transport = {"transport": "ipc", "ip": f"{sockets}/kernel"}
        client = NotebookClient(
            notebook,
            timeout=TIMEOUT,
            kernel_name="python3",
            resources={"metadata": {"path": str(folder)}},
            record_timing=False,
            config=Config({"KernelManager": transport}),
        )
        client.execute(env={**os.environ, **own})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # Progress bars, and messages of libraries about the machine.
            cell.outputs = [part for part in cell.outputs if part.get("name") != "stderr"]
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def main() -> int:
    """Runs every notebook and saves it with its outputs."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            print(f"running {path.name}", flush=True)
            notebook = executed(path, Path(folder))
        nbformat.write(notebook, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
