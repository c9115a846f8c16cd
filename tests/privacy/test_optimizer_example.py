"""The pages' example trains, as well as tensorflow-privacy and nearly as plain Adam."""

import re
import runpy

import numpy as np
import pytest


@pytest.fixture(scope="module")
def bench(repo_root):
    return runpy.run_path(str(repo_root / "benchmarks" / "dp_example.py"))


def example(page):
    """The one block of Python on a page that uses the private optimizer."""
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    (code,) = [block for block in blocks if "DPAdam" in block]
    return code


@pytest.mark.parametrize("name", ["README.md", "docs/dp-optimizer.md"])
def test_the_ten_lines_of_the_page_train_a_classifier(repo_root, bench, name):
    code = example(repo_root / name)
    lines = [line for line in code.splitlines() if line and not line.startswith(("import", "from"))]
    assert len(lines) <= 10
    images, labels, test_images, test_labels = bench["digits"]()
    names = {"images": images, "labels": labels}
    exec(code, names)
    found = np.argmax(names["model"](test_images), axis=1)
    assert np.mean(found == test_labels) > 0.8
    assert names["optimizer"].void is None


@pytest.mark.slow
def test_it_learns_as_much_as_tensorflow_privacy_untouched(bench):
    accuracy = {
        way: bench["train"](way, 15)["accuracy"]
        for way in ("plain Adam", "tensorflow-privacy", "ghost")
    }
    assert accuracy["plain Adam"] > 0.93
    assert accuracy["ghost"] > 0.75
    assert abs(accuracy["ghost"] - accuracy["tensorflow-privacy"]) < 0.08
