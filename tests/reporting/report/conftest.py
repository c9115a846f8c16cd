"""One whole report for the tests of a file."""

import pytest

from tests.reporting.report.runs import kept_results, write_run
from tf_mtl_privacy.reporting.build import build_report
from tf_mtl_privacy.reporting.run_folder import read_run


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run that has everything, and whose name wants to be HTML and Markdown."""
    lfw = {**kept_results(), "utility": {"gender": {"accuracy": 0.881}, "age": {"accuracy": 0.7}}}
    folder = tmp_path_factory.mktemp("runs") / "<b>*demo*&amp;"
    return read_run(write_run(folder, results_lfw_0123abcd=lfw))


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "off"
    return read_run(write_run(folder, kept_results("synthetic_removal_off"), audit=False))


@pytest.fixture(scope="module")
def whole(whole_run, other_run):
    return build_report(whole_run, [other_run])


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The report of a run that has its results and nothing else."""
    results = kept_results()
    results["privacy"]["probe"] = None
    folder = tmp_path_factory.mktemp("runs") / "bare"
    return build_report(
        read_run(write_run(folder, results, audit=False, pictures=False, epochs=False))
    )
