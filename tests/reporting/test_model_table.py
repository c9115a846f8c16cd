"""The table of models: figures by hand, what is missing, what cannot be had."""

import copy
import json

import pytest

from tests.reporting.audits import make_audit
from tests.reporting.table_runs import results, write_run, write_table
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.reporting.model_table import (
    MODELS,
    TableRun,
    command_text,
    model_table,
    table_runs,
)
from tf_mtl_privacy.reporting.render_text import WIDTH
from tf_mtl_privacy.reporting.runs import NONE, NOT_MEASURED, SOURCES, run_figures
from tf_mtl_privacy.reporting.sections.comparison import (
    figure_rows,
    model_table_markdown,
    model_table_text,
    reduction_rows,
)


def three_seeds(runs):
    genders = (0.94, 0.95, 0.99)
    write_table(
        runs,
        *(results("stl", seed, 0.8, 0.82) for seed in range(3)),
        *(results("mtl_dp", seed, 0.9, 0.92) for seed in range(2)),
        *(
            results(seed=seed, features=0.15 + 0.01 * seed, utility__gender__accuracy=gender)
            for seed, gender in enumerate(genders)
        ),
        results("dp_scope_all", 0, 0.3, 0.33),
    )
    return model_table(runs)


def label_of(row):
    return row.cells[0].strip()


def level_of(row):
    """1 for a row that belongs to the one above."""
    return int(row.cells[0].startswith(" "))


def cells(table, label, level=0, after=0):
    """Cells of the first such row from row `after` on, by model."""
    rows = figure_rows(table)
    row = next(row for row in rows[after:] if (label_of(row), level_of(row)) == (label, level))
    return dict(zip(MODELS, row.cells[1:], strict=True))


def test_means_and_spreads_over_seeds_by_hand(tmp_path):
    table = three_seeds(tmp_path)
    figures = table["models"]["mtl_adv_dp"]["figures"]
    gender = figures["gender"]
    assert table["seeds"] == [0, 1, 2] and gender["values"] == [0.94, 0.95, 0.99]
    assert gender["mean"] == pytest.approx(0.96)
    # Deviations -0.02, -0.01, 0.03: squares sum to 0.0014, over 3 - 1 and rooted.
    assert gender["std"] == pytest.approx(0.0007**0.5)
    assert (gender["min"], gender["max"], gender["n"]) == (0.94, 0.99, 3)
    assert table["models"]["mtl_dp"]["figures"]["probe_features"]["std"] == pytest.approx(0)
    assert table["models"]["dp_scope_all"]["figures"]["gender"]["std"] is None
    shown = cells(table, "gender accuracy")
    assert shown["mtl_adv_dp"] == "96.0 %" and shown["mtl_adv"] == NOT_MEASURED
    assert cells(table, "range over seeds", 1)["mtl_adv_dp"] == "94.0–99.0 %"
    assert cells(table, "standard deviation", 1)["mtl_adv_dp"] == "2.65 points"
    assert cells(table, "seeds")["mtl_dp"] == "0, 1"


def test_model_table_has_the_papers_figures(tmp_path):
    table = three_seeds(tmp_path)
    rows = figure_rows(table)
    paper = {
        label_of(rows[k - 1 - 2 * level_of(rows[k - 1])]): list(row.cells[1:])
        for k, row in enumerate(rows)
        if label_of(row) == "paper"
    }
    assert paper == {
        "gender accuracy": ["95.2 %", "96.8 %", "94.5 %", "97.3 %", "–"],
        "age accuracy": ["78.6 %", "82.1 %", "79.3 %", "84.5 %", "–"],
        "expression F1": ["81.3 %", "83.5 %", "80.1 %", "85.7 %", "–"],
        "PSNR": ["–", "30.2 dB", "30.5 dB", "32.8 dB", "–"],
        "in-loop discriminator": ["89.7 %", "23.6 %", "19.8 %", "12.5 %", "–"],
        "membership inference": ["82.5 %", "18.2 %", "15.7 %", "7.3 %", "–"],
        "epsilon, conditional": ["–", "–", "0.5", "0.5", "–"],
    }


def test_reductions_from_the_papers_tables_differ_from_its_claim(tmp_path):
    table = three_seeds(tmp_path)
    claimed = table["reductions"]["claim"]
    found = table["reductions"]["paper"]["mtl_adv_dp"]
    assert claimed == 0.925
    # (89.7 - 12.5) / 89.7 and (82.5 - 7.3) / 82.5; beyond chance (82.5 - 7.3) / (82.5 - 5).
    assert found["discriminator"]["relative"] == pytest.approx(0.8606, abs=5e-5)
    assert found["membership"]["relative"] == pytest.approx(0.9115, abs=5e-5)
    assert found["membership"]["above_chance"] == pytest.approx(0.9703, abs=5e-5)
    assert found["discriminator"]["above_chance"] == pytest.approx(1)
    shown = {
        row.cells[0]: row.cells[1:] for row in reduction_rows(table, "stl") if not level_of(row)
    }
    assert shown["paper: privacy label"][3] == "86.1 %"
    assert shown["paper: membership"][3] == "91.2 %"
    assert '"92.5 %"' in model_table_text(table) and '"92.5 %"' in model_table_markdown(table)


def test_our_reductions_by_hand(tmp_path):
    table = three_seeds(tmp_path)
    ours = table["reductions"]["ours"]["stl"]["mtl_adv_dp"]
    # Probes read 80 % of STL and 15, 16 and 17 % of ours: 65/80, 64/80 and 63/80 are gone.
    assert ours["probe"]["relative"]["values"] == pytest.approx([0.8125, 0.8, 0.7875])
    assert ours["probe"]["relative"]["mean"] == pytest.approx(0.8)
    assert ours["probe"]["above_chance"]["values"][0] == pytest.approx(0.65 / 0.675)
    # The interval's upper end is 55 % for each.
    assert ours["probe_high"]["relative"]["mean"] == pytest.approx(0.25 / 0.8)
    against_dp = table["reductions"]["ours"]["mtl_dp"]["mtl_adv_dp"]
    # Only the seeds that both have.
    assert against_dp["probe"]["relative"]["n"] == 2
    assert against_dp["probe"]["relative"]["values"][:2] == pytest.approx([0.75 / 0.9, 0.74 / 0.9])
    shown = {
        row.cells[0]: row.cells[1:] for row in reduction_rows(table, "mtl_dp") if not level_of(row)
    }
    assert (
        shown["attacker on features"][3].endswith("(2/3)")
        and shown["attacker on features"][2] == "–"
    )


def test_reductions_compare_attackers_of_the_same_kind(tmp_path):
    write_table(
        tmp_path,
        results("stl", 0, 0.8),
        results("mtl_dp", 0, 0.9, privacy__discriminator__accuracy=0.2),
        results("mtl_adv", 0, 0.12, privacy__discriminator=None),
        results(features=0.15, privacy__discriminator__accuracy=0.13),
    )
    table = model_table(tmp_path)
    ours = table["reductions"]["ours"]
    # STL has no discriminator: nothing to hold one against, and a fresh attacker is no such thing.
    assert set(ours["stl"]["mtl_adv_dp"]) == {"probe", "probe_high"}
    found = ours["mtl_dp"]["mtl_adv_dp"]
    assert found["in_loop"]["relative"]["mean"] == pytest.approx(0.07 / 0.2)
    assert found["in_loop"]["above_chance"]["mean"] == pytest.approx(0.07 / 0.075)
    assert found["probe"]["relative"]["mean"] == pytest.approx(0.75 / 0.9)
    # Left out where one of the two is missing.
    assert ours["mtl_dp"]["mtl_adv"]["in_loop"]["relative"]["mean"] is None
    shown = {label_of(row) for row in reduction_rows(table, "stl")}
    assert "in-loop discriminator" not in shown
    assert "in-loop discriminator" in {label_of(row) for row in reduction_rows(table, "mtl_dp")}


def test_reductions_with_weak_attackers_are_missing(tmp_path):
    weak = {"privacy__probe__underpowered": True}
    reasons = {"privacy__probe__underpowered_reasons": ["pixels: 40.0 % of 85 %"]}
    write_table(tmp_path, results("stl", 0, 0.8), results(features=0.13, **weak, **reasons))
    table = model_table(tmp_path)
    found = table["reductions"]["ours"]["stl"]["mtl_adv_dp"]["probe"]["relative"]
    assert found["mean"] is None and found["absent"] == NOT_MEASURED
    assert cells(table, "attacker on features")["mtl_adv_dp"] == "13.0 % !"
    assert cells(table, "attacker on features")["stl"] == "80.0 %"
    assert any(
        "NO BOUND CLAIMED, underpowered attackers: pixels: 40.0 % of 85 %" in note
        for note in table["notes"]
    )


def test_model_table_gives_the_reason_for_missing_figures(tmp_path):
    bare = results("mtl_adv", privacy__probe=None, dp__unaccounted_label_access=...)
    del bare["restoration"]
    write_table(tmp_path, results("stl"), bare)
    table = model_table(tmp_path)
    # STL has no restorer, discriminator or epsilon; of the other run nobody knows.
    for label in ("PSNR", "in-loop discriminator", "attacker on restored"):
        assert cells(table, label)["stl"] == NONE
    assert cells(table, "PSNR")["mtl_adv"] == NOT_MEASURED
    assert cells(table, "features, upper bound")["mtl_adv"] == NOT_MEASURED
    assert cells(table, "label access") == {
        "stl": "empty",
        **dict.fromkeys(("mtl_adv", "mtl_dp", "mtl_adv_dp", "dp_scope_all"), NOT_MEASURED),
    }
    assert any("--probe=fast" in note and "MTL-Adv," in note for note in table["notes"])
    assert not any("STL" in note for note in table["notes"])


def test_epsilon_and_label_access_of_each_kind(tmp_path):
    reads = ["gates read the labels of validation rows"]
    write_table(
        tmp_path,
        results("mtl_adv_dp", dp__unaccounted_label_access=reads),
        results("dp_scope_all"),
    )
    table = model_table(tmp_path)
    assert cells(table, "epsilon, conditional")["mtl_adv_dp"] == "0.4900"
    assert cells(table, "epsilon, released")["mtl_adv_dp"] == NONE
    assert cells(table, "epsilon, released")["dp_scope_all"] == "0.4900"
    assert cells(table, "epsilon, conditional")["dp_scope_all"] == NONE
    assert cells(table, "label access")["mtl_adv_dp"] == "outside: 1"
    assert cells(table, "label access")["dp_scope_all"] == "empty"
    for text in (model_table_text(table), model_table_markdown(table)):
        assert "MTL-Adv-DP, label access outside the accounting: gates" in " ".join(text.split())


def test_missing_runs_are_named_with_the_command_that_trains_them(tmp_path):
    write_table(tmp_path, results("stl", 1), results("stl", 0))
    # A run that was stopped has a folder but no result.
    (tmp_path / "mtl_dp-seed0").mkdir()
    missing = {(m["model"], m["seed"]): m["command"] for m in model_table(tmp_path)["missing"]}
    expected = {(model, seed) for model in MODELS if model != "stl" for seed in (0, 1)}
    assert set(missing) == expected | {("backbone", 0)}
    assert list(missing).index(("backbone", 0)) < list(missing).index(("dp_scope_all", 0))
    command = missing["mtl_dp", 1].split()
    assert command[:3] == ["python", "-m", "tf_mtl_privacy.train"]
    parsed = parse("train", command[3:])
    assert (parsed.config.train.model, parsed.config.train.seed) == ("mtl_dp", 1)
    assert parsed.options.run_dir == str(tmp_path / "mtl_dp-seed1")
    assert parsed.options.probe == "fast"
    assert command_text(TableRun("mtl_dp", 1), tmp_path) in model_table_text(model_table(tmp_path))


def test_all_models_share_the_data_and_the_budget():
    configs = {run.model: parse("train", run.flags("runs/table")).config for run in table_runs([0])}
    assert list(configs)[-2:] == ["backbone", "dp_scope_all"]
    backbone = configs.pop("backbone")
    assert len({config.data for config in configs.values()}) == 1
    assert backbone.data.synthetic_stream != configs["stl"].data.synthetic_stream
    budgets = {config.privacy.target_epsilon for config in configs.values()}
    assert budgets == {0.5}
    assert configs["dp_scope_all"].privacy.dp_scope == "all"
    assert configs["dp_scope_all"].model.backbone.endswith("runs/table/backbone")


@pytest.mark.parametrize(
    ("verdict", "cell", "note"),
    [
        ("ok", "5.8 %", ""),
        ("no_power", "5.8 % !", "nothing shows that the attacks could have found more"),
        ("invalid", NOT_MEASURED, "members and non-members differ without any model"),
    ],
)
def test_membership_is_that_of_an_audit_of_the_same_weights(tmp_path, verdict, cell, note):
    found = results()
    found["privacy"]["probe"]["weights"] = "a" * 16
    found["stop_rule"]["parts"]["membership"] = {"value": 0.3}
    audit = make_audit(found, weights="a" * 16)
    audit["membership"]["verdict"] = verdict
    write_table(tmp_path, results("stl"), found)
    path = tmp_path / "mtl_adv_dp-seed0" / "audit.json"
    path.write_text(json.dumps(audit), encoding="utf-8")
    table = model_table(tmp_path)
    assert cells(table, "membership inference")["mtl_adv_dp"] == cell
    assert cells(table, "membership inference")["stl"] == NOT_MEASURED
    assert any(note in told for told in table["notes"]) if note else not table["notes"]
    # Of other weights: what the stop rule measured, as where there is no audit.
    path.write_text(json.dumps(audit | {"weights": "b" * 16}), encoding="utf-8")
    assert cells(model_table(tmp_path), "membership inference")["mtl_adv_dp"] == "30.0 %"


def test_leakage_takes_higher_accuracies_from_the_audit(tmp_path):
    found = results(features=0.15, high=0.17)
    better = copy.deepcopy(found["privacy"]["probe"])
    better["features"]["strongest"] |= {"accuracy": 0.4, "ci95": [0.38, 0.42]}
    figures = run_figures(found, make_audit(found, attributes=better)).figures
    assert (figures["probe_features"].value, figures["probe_features_high"].value) == (0.4, 0.42)
    assert run_figures(found).figures["probe_features"].value == 0.15


def test_runs_on_other_data_are_noticed(tmp_path):
    write_table(tmp_path, results("stl"), results(evaluated_on__data_fingerprint="other"))
    assert any("do NOT use the same data" in note for note in model_table(tmp_path)["notes"])


def test_runs_whose_fingerprints_have_other_secrets_cannot_be_compared(tmp_path):
    one, other = "ab" * 32 + ".00000001", "cd" * 32 + ".00000002"
    ours = results(evaluated_on__data_fingerprint=one)
    write_table(tmp_path, results("stl", evaluated_on__data_fingerprint=other), ours)
    notes = [note for note in model_table(tmp_path)["notes"] if "same data" in note]
    assert len(notes) == 1 and notes[0].startswith("unknown if the runs use the same data")


def test_table_text_is_narrow_and_json_is_valid(tmp_path):
    table = three_seeds(tmp_path)
    lines = model_table_text(table).splitlines()
    assert max(len(line) for line in lines if "python -m" not in line) <= WIDTH
    assert json.loads(json.dumps(table, allow_nan=False)) == table
    markdown = [line for line in model_table_markdown(table).splitlines() if line.startswith("|")]
    assert {line.count("|") for line in markdown} == {len(MODELS) + 2}


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match="nowhere: no such folder"):
        model_table(tmp_path / "nowhere")
    with pytest.raises(RunError, match="no finished run; `make table`"):
        model_table(tmp_path)
    write_run(tmp_path / "stl-seed0", results("mtl_dp"))
    with pytest.raises(RunError, match="result of mtl_dp, seed 0, not of stl, seed 0"):
        model_table(tmp_path)
    write_run(tmp_path / "b" / "stl-seed0", results("stl", schema_version=2))
    with pytest.raises(RunError, match="schema_version is 2, expected 1"):
        model_table(tmp_path / "b")
    (tmp_path / "b" / "stl-seed0" / "results.json").write_text("{")
    with pytest.raises(RunError, match="not JSON"):
        model_table(tmp_path / "b")


def test_run_figures_of_a_stored_result_are_complete(repo_root):
    whole = json.loads((repo_root / "docs" / "results" / "demo.json").read_text(encoding="utf-8"))
    figures = run_figures(whole).figures
    assert figures["gender"].value == whole["utility"]["gender"]["accuracy"]
    assert figures["epsilon_conditional"].value == whole["dp"]["conditional"]["discriminator"]
    known = {name for name, figure in figures.items() if figure.value is not None}
    assert known >= {"gender", "age", "expression_f1", "psnr_db", "discriminator", "seconds"}
    assert set(figures) == set(SOURCES)
