"""The `report` command, in this process and as a command."""

import json

import pytest

from tests.reporting.report.runs import write_run
from tests.reporting.table_runs import results, write_table
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.cli.report import main
from tf_mtl_privacy.errors import UsageError


@pytest.fixture
def runs(tmp_path):
    write_table(tmp_path, results("stl"), results(features=0.15))
    return tmp_path


def printed(capsys, *argv):
    assert main(parse("report", list(argv))) == 0
    return capsys.readouterr().out


def test_report_table_prints_each_format(runs, capsys):
    flags = ("--table", f"--runs={runs}")
    text = printed(capsys, *flags)
    assert "MTL-Adv-DP" in text and "Missing" in text
    assert printed(capsys, *flags, "--format=markdown").startswith("|  | STL |")
    table = json.loads(printed(capsys, *flags, "--format=json"))
    assert table["models"]["mtl_adv_dp"]["figures"]["probe_features"]["mean"] == 0.15
    more = json.loads(printed(capsys, *flags, "--format=json", "--seeds=2"))
    assert len(more["missing"]) == len(table["missing"]) + 5


def test_report_without_arguments_names_what_it_needs():
    with pytest.raises(UsageError, match="--run_dir=RUN, or --table and --runs") as refused:
        main(parse("report", []))
    assert "\n" not in str(refused.value)


def test_report_errors_have_codes_and_one_line(runs, python):
    done = python("-X", "importtime", "-m", "tf_mtl_privacy.report", "--table", f"--runs={runs}")
    assert done.returncode == 0 and "tensorflow" not in done.stderr
    for flag, code in ((f"--runs={runs}/nowhere", 2), ("--format=pdf", 2), ("--seeds=0", 2)):
        refused = python("-m", "tf_mtl_privacy.report", "--table", flag)
        assert refused.returncode == code and refused.stderr.count("\n") == 1
        assert refused.stderr.startswith("error: --")
    (runs / "stl-seed0" / "results.json").write_text("{")
    assert python("-m", "tf_mtl_privacy.report", "--table", f"--runs={runs}").returncode == 1


@pytest.fixture
def run_dir(tmp_path):
    return write_run(tmp_path / "demo")


def test_report_is_written_into_the_run_folder(run_dir, capsys):
    text = printed(capsys, f"--run_dir={run_dir}", "--verbose")
    for name in ("report.html", "report.md", "report"):
        assert (run_dir / name).exists() and str(run_dir / name) in text
    assert text.index("No released weights have an epsilon") < text.index("Not protected")
    screen = printed(capsys, f"--run_dir={run_dir}")
    assert "No released weights have an epsilon" in screen and screen.count("\n") <= 30
    # Made again, it takes the place of the old one.
    (run_dir / "report.html").write_text("old")
    printed(capsys, f"--run_dir={run_dir}")
    assert (run_dir / "report.html").read_text(encoding="utf-8") != "old"


def test_report_compares_runs_and_writes_elsewhere(run_dir, tmp_path, capsys):
    others = [write_run(tmp_path / name, audit=False, pictures=False) for name in "abc"]
    page = tmp_path / "new" / "page.html"
    flags = [f"--compare={others[0]},{others[1]}", f"--compare={others[2]}", f"--output={page}"]
    printed(capsys, f"--run_dir={run_dir}", *flags)
    text = page.read_text(encoding="utf-8")
    for name in ("a", "b", "c"):
        assert f'<th scope="col">{name}</th>' in text
    assert not (run_dir / "report.html").exists()
    assert (tmp_path / "new" / "page" / "training.png").exists()
    assert (tmp_path / "new").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--seeds=2",), "--seeds: is for --table"),
        (("--table", "--compare=x"), "--compare: is for a report on --run_dir"),
        (("--table", "--output=x.html"), "--output: is for a report on --run_dir"),
        (("--output=x.pdf",), "--output=x.pdf: expected a name that ends with .html"),
        (("--run_dir=nowhere",), "--run_dir=nowhere: no such folder"),
    ],
)
def test_report_incompatible_flags_are_refused(flags, words):
    with pytest.raises(UsageError, match=words) as refused:
        main(parse("report", list(flags)))
    assert "\n" not in str(refused.value)


def test_report_loads_no_tensorflow(run_dir, python):
    done = python("-X", "importtime", "-m", "tf_mtl_privacy.report", f"--run_dir={run_dir}")
    assert done.returncode == 0 and "matplotlib" in done.stderr
    loaded = [line.rpartition("|")[2].strip() for line in done.stderr.splitlines()]
    assert not {"tensorflow", "keras"} & {name.split(".")[0] for name in loaded}
