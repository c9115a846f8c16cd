"""Run folders that were made with noise that was cut: no reader of them prints an epsilon."""

import json

import pytest

from tests.privacy.test_noise_record import LINE
from tests.reporting.report.runs import kept_results, write_run
from tests.reporting.table_runs import results, write_table
from tf_mtl_privacy.cli import export
from tf_mtl_privacy.evaluation.schema import read_results
from tf_mtl_privacy.reporting.build import build_report
from tf_mtl_privacy.reporting.model_table import model_table
from tf_mtl_privacy.reporting.privacy_card import privacy_card
from tf_mtl_privacy.reporting.render_markdown import report_markdown
from tf_mtl_privacy.reporting.runs import VOID, read_run
from tf_mtl_privacy.reporting.sections.comparison import figure_rows, model_table_text
from tf_mtl_privacy.reporting.sections.privacy import card_text, privacy_text
from tf_mtl_privacy.reporting.sections.summary import results_text

# Name -> its published figures: of them none may be printed but once, as withdrawn.
PUBLISHED = {
    "synthetic_dp_all": ("1.9991", "2.000", "1.999"),
    "demo_cut_noise": ("0.4996", "0.500"),
}


@pytest.fixture(params=PUBLISHED)
def old(request, tmp_path):
    return request.param, write_run(tmp_path / "old", kept_results(request.param, noise=None))


def unwrapped(text):
    return " ".join(text.split())


def assert_withdrawn(text, name):
    shown = unwrapped(text)
    assert LINE in shown
    rest = shown.replace(f"epsilon {PUBLISHED[name][0]} {LINE}", "")
    for figure in PUBLISHED[name]:
        assert figure not in rest, rest[max(0, rest.find(figure) - 80) :][:160]


def test_text_and_statement_of_an_old_run_withdraw_its_epsilon(old):
    name, folder = old
    found = read_results(folder / "results.json")
    # Kept files of earlier versions lack sections that the table needs.
    assert_withdrawn(results_text(kept_results("demo_cut_noise") | found), name)
    assert_withdrawn(privacy_text(found["dp"]), name)
    assert "compute_dp_sgd_privacy" not in privacy_text(found["dp"])


def test_card_of_an_old_run_withdraws_its_epsilon(old):
    name, folder = old
    card = privacy_card(read_results(folder / "results.json"))
    assert_withdrawn(card_text(card), name)
    assert (
        card["summary"].startswith("No privacy guarantee holds: ") and card["conditional"] is None
    )
    exported = export._card(folder)
    assert exported["released"] == card["released"] and set(card["released"].values()) == {None}
    assert exported["void"] == card["void"] and LINE in card["void"]


def test_report_of_an_old_run_withdraws_its_epsilon(old, tmp_path):
    name, folder = old
    new = write_run(tmp_path / "new", kept_results(name))
    report = report_markdown(build_report(read_run(folder), [read_run(new)]), "x")
    shown = unwrapped(report).replace("\\", "")
    assert LINE in shown
    # The other run's epsilon holds and is shown as such; this one's cells say void.
    assert "No epsilon of old holds: " in shown and "old: no epsilon holds: " in shown
    rows = [row for row in report.splitlines() if row.startswith("| epsilon, ")]
    assert [row for row in rows if "| void |" in row], rows


def test_model_table_of_old_runs_withdraws_their_epsilon(tmp_path):
    write_table(
        tmp_path,
        results("mtl_dp", 0, dp__noise=...),
        results("dp_scope_all", 0, dp__noise=None),
        results(),
    )
    table = model_table(tmp_path)
    kept = {name: part["figures"] for name, part in table["models"].items()}
    assert kept["mtl_dp"]["epsilon_conditional"]["absent"] == VOID
    assert kept["dp_scope_all"]["epsilon_released"]["absent"] == VOID
    assert kept["mtl_adv_dp"]["epsilon_conditional"]["mean"] == 0.49
    text = unwrapped(model_table_text(table))
    assert f"MTL-DP, seed 0: NO EPSILON HOLDS: conditional epsilon 0.49 {LINE}" in text
    cells = next(row.cells for row in figure_rows(table) if row.cells[0].startswith("epsilon, rel"))
    assert cells.count("void") == 1


def test_read_run_leaves_the_file_unchanged(old):
    folder = old[1]
    before = (folder / "results.json").read_bytes()
    read_run(folder)
    assert (folder / "results.json").read_bytes() == before
    assert json.loads(before)["dp"]["epsilon_pld"] is not None
