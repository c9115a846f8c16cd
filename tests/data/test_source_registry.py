"""Data sources from outside the package: registered in a process, or found as an entry point."""

import importlib
import json
import os
import sys

import numpy as np
import pytest

from tests.cli.conftest import SMALL
from tf_mtl_privacy.cli.main import execute
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.config.data import dataset_names
from tf_mtl_privacy.data import open_dataset, register_source
from tf_mtl_privacy.data.sources.base import unregister_source
from tf_mtl_privacy.errors import UsageError

# A package of somebody else: pictures with a bright half (the task) on a tinted ground (private).
PLUGIN = """
import numpy as np

from tf_mtl_privacy.data import LabelTable, Pictures, register_source
from tf_mtl_privacy.data.sources.base import fingerprint

ROWS = 96


@register_source("halves", tasks="side=side", private_label="tint", needs_data_dir=False)
class Halves:
    name, has_regions = "halves", False

    def __init__(self, config):
        self.size = config.image_size
        draw = np.random.default_rng(config.data_seed)
        self.side, self.tint = draw.integers(0, 2, ROWS), draw.integers(0, 3, ROWS)

    def fingerprint(self):
        return fingerprint(self.name, self.size, self.side.tobytes())

    def load(self):
        labels = {"side": self.side.astype(np.int32), "tint": self.tint.astype(np.int32)}
        return LabelTable(
            keys=np.array([f"row{k}" for k in range(ROWS)]),
            split=np.repeat(np.arange(3, dtype=np.int8), [48, 24, 24]),
            attributes=labels,
            attribute_classes={"side": ("left", "right"), "tint": ("red", "green", "blue")},
        )

    def read(self, rows):
        images = np.full((len(rows), self.size, self.size, 3), 40, np.uint8)
        half = self.size // 2
        for image, row in zip(images, rows):
            image[:, half * self.side[row] :][:, :half] = 180
            image[..., self.tint[row]] += 60
        return Pictures(images, [""] * len(rows))
"""


@pytest.fixture
def package(tmp_path):
    """A folder with the package and its entry point, as pip installs them."""
    site = tmp_path / "site"
    (site / "halves-1.0.dist-info").mkdir(parents=True)
    (site / "halves_package.py").write_text(PLUGIN)
    (site / "halves-1.0.dist-info" / "METADATA").write_text("Name: halves\nVersion: 1.0\n")
    entry = "[tf_mtl_privacy.sources]\nhalves = halves_package\n"
    (site / "halves-1.0.dist-info" / "entry_points.txt").write_text(entry)
    return site


@pytest.fixture
def registered(package, monkeypatch):
    monkeypatch.syspath_prepend(str(package))
    module = importlib.import_module("halves_package")
    yield module
    unregister_source("halves")
    del sys.modules["halves_package"]


def test_registered_source_opens_with_its_defaults(registered, tmp_path):
    config = DataConfig(dataset="halves", image_size=32, cache_dir=str(tmp_path / "cache"))
    assert "halves" in dataset_names() and config.effective_crop == "center"
    dataset = open_dataset(config)
    assert dataset.task_classes == {"side": ("left", "right")}
    assert dataset.private_classes == ("red", "green", "blue")
    assert {name: len(rows) for name, rows in dataset.rows.items()} == {
        "train": 48,
        "validation": 24,
        "test": 24,
    }
    # Pictures that the package does not draw itself may show people: their digest is keyed.
    assert dataset.key_folder is not None and "." in dataset.fingerprint
    batch = dataset.batch(np.arange(4))
    source = registered.Halves(config)
    assert np.array_equal(batch.image, source.read(np.arange(4)).images)
    assert np.array_equal(batch.private, source.tint[:4])


@pytest.mark.usefixtures("untraced_here")
def test_registered_source_trains_by_its_name(registered, tmp_path, capsys):
    run_dir = tmp_path / "run"
    flags = ["--dataset=halves", "--image_size=32", f"--cache_dir={tmp_path / 'cache'}"]
    flags += [*SMALL, "--model=mtl_adv", f"--run_dir={run_dir}"]
    assert execute("train", flags) == 0, capsys.readouterr().err
    results = json.loads((run_dir / "results.json").read_text())
    assert results["utility"]["side"]["n"] == 24
    assert results["config"]["data"]["dataset"] == "halves"
    assert results["privacy"]["chance"] == pytest.approx(1 / 3)


def test_entry_point_of_an_installed_package_is_found(package, python, tmp_path):
    code = (
        "import sys\n"
        "from tf_mtl_privacy.cli.flags import parse\n"
        "from tf_mtl_privacy.data import open_dataset\n"
        "data = parse('prepare', sys.argv[1:]).data\n"
        "print(len(open_dataset(data).store), 'tensorflow' in sys.modules)\n"
    )
    flags = ("--dataset=halves", "--image_size=32", f"--cache_dir={tmp_path / 'cache'}")
    path = os.pathsep.join([str(package), os.environ["PYTHONPATH"]])
    done = python("-c", code, *flags, env={"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["96", "False"]
    # Without the package the name is unknown.
    assert "--dataset=halves: expected one of" in python("-c", code, *flags).stderr


def test_register_source_refuses_taken_and_odd_names(registered):
    for name in ("halves", "celeba", "tfds"):
        with pytest.raises(ValueError, match=f"'{name}' is already registered"):
            register_source(name)
    for name in ("", "My faces", "tfds:x", "../x", "UPPER"):
        with pytest.raises(ValueError, match="expected lowercase letters"):
            register_source(name)


def test_unknown_dataset_lists_the_known_names():
    for name in ("halves", "tfds", "tfds:", "celeba:x"):
        with pytest.raises(UsageError) as refused:
            DataConfig(dataset=name, data_dir="x")
        assert str(refused.value) == (
            f"--dataset={name}: expected one of synthetic_faces, celeba, lfw, csv, tfds:NAME"
        )
