"""A run folder of an earlier version: train, evaluate, audit and export withdraw its epsilon."""

import json
import shutil

import pytest

from tests.privacy.test_noise_record import LINE
from tests.reporting.report.runs import kept_results
from tf_mtl_privacy.cli.main import execute
from tf_mtl_privacy.training.saved_run import load_run

STATED = "epsilon 1.9991"


@pytest.fixture
def old_run(trained, tmp_path):
    """A copy of the tiny run with the `dp` section of a published result in its files."""
    folder = shutil.copytree(trained[0], tmp_path / "run")
    dp = kept_results("synthetic_dp_all", noise=None)["dp"]
    for name in ("training.json", "results.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"dp": dp}))
    (folder / "privacy.txt").write_text("encoder, as released: epsilon 2.000\n")
    return folder


def test_every_command_withdraws_it(old_run, tmp_path, capsys):
    line = f"{STATED} {LINE}"
    assert load_run(old_run).status["dp"]["void_reason"] == line

    # Before the run is evaluated again results.json still has the figure.
    target = tmp_path / "model"
    arguments = [f"--run_dir={old_run}", f"--export_dir={target}"]
    assert execute("export", arguments) == 0
    assert f"Privacy: No privacy at all: {line}" in capsys.readouterr().out
    card = json.loads((target / "1" / "assets.extra" / "privacy_card.json").read_text())
    assert set(card["released"].values()) == {None} and card["void"] == line

    assert execute("evaluate", [f"--run_dir={old_run}"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"VOID, nothing is protected: {line}" in shown and "2.000" not in shown
    dp = json.loads((old_run / "results.json").read_text())["dp"]
    assert dp["void"] and dp["epsilon_pld"] is None and dp["void_reason"] == line
    assert line in " ".join((old_run / "privacy.txt").read_text().split())
    assert "as released" not in (old_run / "privacy.txt").read_text()
