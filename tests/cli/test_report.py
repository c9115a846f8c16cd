"""The `report` command, in this process and as a command."""

import json

import pytest

from tests.reporting.table_runs import results, write_table
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.flags import parse
from tf_mtl_privacy.report import main


@pytest.fixture
def runs(tmp_path):
    write_table(tmp_path, results("stl"), results(features=0.15))
    return tmp_path


def printed(capsys, *argv):
    assert main(parse("report", list(argv))) == 0
    return capsys.readouterr().out


def test_each_format(runs, capsys):
    flags = ("--table", f"--runs={runs}")
    text = printed(capsys, *flags)
    assert "MTL-Adv-DP" in text and "Missing" in text
    assert printed(capsys, *flags, "--format=markdown").startswith("|  | STL |")
    table = json.loads(printed(capsys, *flags, "--format=json"))
    assert table["models"]["mtl_adv_dp"]["figures"]["probe_features"]["mean"] == 0.15
    more = json.loads(printed(capsys, *flags, "--format=json", "--seeds=2"))
    assert len(more["missing"]) == len(table["missing"]) + 5


def test_without_a_table_it_says_what_it_needs():
    with pytest.raises(UsageError, match="--run_dir=RUN, or --table and --runs") as refused:
        main(parse("report", []))
    assert "\n" not in str(refused.value)


def test_exit_codes_and_one_line_errors(runs, python):
    done = python("-X", "importtime", "-m", "tf_mtl_privacy.report", "--table", f"--runs={runs}")
    assert done.returncode == 0 and "tensorflow" not in done.stderr
    for flag, code in ((f"--runs={runs}/nowhere", 2), ("--format=pdf", 2), ("--seeds=0", 2)):
        refused = python("-m", "tf_mtl_privacy.report", "--table", flag)
        assert refused.returncode == code and refused.stderr.count("\n") == 1
        assert refused.stderr.startswith("error: --")
    (runs / "stl-seed0" / "results.json").write_text("{")
    assert python("-m", "tf_mtl_privacy.report", "--table", f"--runs={runs}").returncode == 1
