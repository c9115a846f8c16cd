"""Notebooks run from top to bottom, and what is kept of their outputs is small and of nobody."""

import base64
import io

import nbformat
import pytest
from PIL import Image

from tests.notebooks import FOLDER, ROOT, executed

NOTEBOOKS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
# Of these every figure is computed, so what is kept must be what comes out again.
EXACT = {"privacy_accounting"}


def outputs(notebook):
    return [part for cell in notebook.cells for part in cell.get("outputs", [])]


def printed(notebook):
    return "".join(part["text"] for part in outputs(notebook) if part.get("name") == "stdout")


def pictures(notebook):
    coded = [part["data"]["image/png"] for part in outputs(notebook) if "data" in part]
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in coded]


def test_there_are_notebooks():
    assert {"privacy_accounting", "quickstart", "serving"} <= set(NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_what_is_kept_is_small_complete_and_names_no_place(name):
    path = FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < 200_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {part.output_type for part in outputs(notebook)}
    assert kinds <= {"stream", "display_data", "execute_result"}
    assert all(part.get("name") != "stderr" for part in outputs(notebook))
    assert printed(notebook) and pictures(notebook)
    text = path.read_text(encoding="utf-8")
    assert str(ROOT) not in text and "/tmp" not in text


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs(name, tmp_path):
    path = FOLDER / f"{name}.ipynb"
    kept, notebook = nbformat.read(path, as_version=4), executed(path, tmp_path)
    assert [cell.source for cell in notebook.cells] == [cell.source for cell in kept.cells]
    assert [picture.size for picture in pictures(notebook)] == [
        picture.size for picture in pictures(kept)
    ]
    if name in EXACT:
        assert printed(notebook) == printed(kept)
