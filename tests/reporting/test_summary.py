"""The screen that ends a command and the whole text: figures, conditions, warnings, width."""

import copy
import io
import json
import re

import pytest
from scipy.stats import beta

from tests.reporting.probes import patient, whole_probe
from tests.reporting.report.runs import RESULTS, kept_results
from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.evaluation.schema import read_results
from tf_mtl_privacy.reporting.formats import at_most, decibel, percent, show
from tf_mtl_privacy.reporting.privacy_card import epsilon_statement
from tf_mtl_privacy.reporting.reconcile_probes import leakage
from tf_mtl_privacy.reporting.render_text import render_text
from tf_mtl_privacy.reporting.runs import run_files
from tf_mtl_privacy.reporting.sections.summary import SCREEN, results_summary, results_text

STORED = sorted(
    path.stem
    for path in RESULTS.glob("*.json")
    if "evaluated_on" in json.loads(path.read_text(encoding="utf-8"))
)
FILES = {"runs/a/results.json": "all figures"}


def flat(text):
    return " ".join(text.split())


def screen(results, files=FILES, width=100):
    return render_text(results_summary(results, files, width), width)


def line_of(text, start):
    return next(line for line in text.splitlines() if line.startswith(start))


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", STORED)
def test_summary_of_a_stored_result_fits_one_screen(name, width):
    results = read_results(RESULTS / f"{name}.json")
    text = screen(results, width=width)
    lines = text.splitlines()
    commands = [line for line in lines if "python -m" in line]
    assert len(lines) <= SCREEN == 30
    assert max(len(line) for line in lines if line not in commands) <= width
    for task, figures in results["utility"].items():
        row = line_of(text, task)
        assert percent(figures["accuracy"]) in row and percent(figures["majority"]) in row
    assert decibel(results["restoration"]["psnr_db"]) in text
    found = leakage(results)
    if found is None:
        assert "not measured" in line_of(text, "Leakage") and "Warning" in text
    else:
        told = flat(text)
        assert percent(found["worst"]["accuracy"]) in told
        assert f"upper bound {at_most(found['worst']['upper'])}" in told
        assert f"chance {percent(results['privacy']['chance'])}" in told
        assert line_of(text, "Leakage baselines")
        refused = "no bound on the leakage is claimed" in told
        assert refused is (found["claim"] is None)
        if found["before_game"] is not None:
            assert f"before adversarial training {percent(found['before_game'])}" in told
    assert flat(epsilon_statement(results["dp"])[0])[:50] in flat(text)
    rule = (results["stop_rule"] or {}).get("parts") or {}
    parts = [*filter(None, results["gates"].values()), *rule.values()]
    assert ("not met: " in text) is any(part["status"] == "not_met" for part in parts)
    assert line_of(text, "Results").endswith("runs/a/results.json")
    assert "tf_mtl_privacy.report --run_dir=runs/a" in line_of(text, "Report")
    wanted = "audit --run_dir=runs/a" if found and found["setting"] else "evaluate --run_dir=runs/a"
    assert wanted in line_of(text, "Next")


def test_summary_states_epsilon_in_two_lines_with_its_condition():
    text = screen(kept_results())
    lines = text.splitlines()
    first = next(k for k, line in enumerate(lines) if line.startswith("Epsilon"))
    assert lines[first].endswith("No released weights have an epsilon.")
    assert re.search(r"0\.4996 \(delta 1e-05\), conditional on known encoder weights\.", text)
    assert not lines[first + 2].startswith(" ")
    text = screen(kept_results("synthetic_dp_all"))
    assert re.search(r"Released weights: epsilon [12]\.\d+ at delta \S+ \(add or remove one", text)
    assert "Not covered: features, restored images and predictions of training images." in text


def test_summary_compares_with_the_baseline_run_where_there_is_one(results):
    assert "without removal 78.7 %" in screen(results)
    assert "without removal not measured" not in flat(screen(results))
    results["privacy"]["probe"]["removal_off"] = {"strongest": None}
    results["privacy"]["leakage"] = None
    assert "without removal not measured (--baseline_run)" in flat(screen(results))


def test_summary_of_a_run_with_many_tasks_still_fits(results):
    results["utility"] |= {f"task{k}": results["utility"]["age"] for k in range(40)}
    text = screen(results)
    assert text.count("\n") < SCREEN and "more tasks (--verbose)" in text


def test_summary_warns_of_few_images_and_of_majority_accuracy(bare_results, results):
    assert "only 40 test images" in screen(bare_results)
    assert "test images, so the intervals" not in screen(results)
    assert "majority baseline:" not in screen(results)
    results["utility"]["age"] |= {"ci95": [0.2, 0.3], "majority": 0.28}
    assert "not significantly better than the majority baseline: age" in flat(screen(results))


def test_summary_names_the_report_and_the_audit_once_written(results):
    files = FILES | {"runs/a/report.html": "", "runs/a/audit.json": ""}
    text = screen(results, files)
    assert "runs/a/report.html" in line_of(text, "Report")
    assert "tf_mtl_privacy.report" in line_of(text, "Next")


def test_text_has_the_figures_of_a_task_in_one_row(results):
    figures = results["utility"]["age"]
    cells = [cell.strip() for cell in line_of(results_text(results), "age ").split("  ")]
    low, high = figures["ci95"]
    assert [cell for cell in cells if cell] == [
        "age",
        f"{100 * figures['accuracy']:.1f} %",
        f"{100 * low:.1f}–{100 * high:.1f} %",
        f"{100 * figures['balanced_accuracy']:.1f} %",
        f"{100 * figures['f1']:.1f} %",
        f"{100 * figures['majority']:.1f} %",
        f"{100 * figures['accuracy']:.1f} %",
        str(figures["n"]),
    ]


@pytest.mark.parametrize("width", [80, 100])
def test_text_is_not_wider_than_requested(results, bare_results, width):
    results["utility"]["a_task_with_a_very_long_name_indeed"] = results["utility"]["age"]
    results["evaluated_on"]["label_note"] = "labels are the scores of a classifier " * 5
    results["dp"]["reason"] = "because of this and that " * 20
    for found in (results, bare_results):
        lines = results_text(found, width=width).splitlines()
        assert max(len(line) for line in lines if "python -m" not in line) <= width


def test_text_keeps_discriminator_and_leakage_apart(results):
    text = flat(results_text(results))
    assert "In-loop discriminator (not the leakage; fresh attackers may do far better)" in text
    assert "chance 12.5 %" in text and "majority" in text


def rows_of(results):
    """Target -> cells of the table of fresh attackers, by their order."""
    from tf_mtl_privacy.reporting.sections.attackers import _table

    table = _table(results, leakage(results))
    return {row.cells[0]: row.cells[1:] for row in table.rows}, " ".join(table.notes)


def test_attackers_are_compared_with_chance_and_references(results):
    rows, notes = rows_of(results)
    own = f"{100 * wilson_interval(152, 1000)[1]:.1f} %"
    # Of the two attackers of unseen rows together: exact at half of 5 % each, or more.
    bound = results["privacy"]["probe"]["features"]["bound"]
    assert bound["accuracy"] == pytest.approx(beta.ppf(1 - 0.0125, 144, 1000 - 143))
    unseen = f"{100 * max(bound['accuracy'], bound['balanced_accuracy']):.1f} %"
    assert rows["features"][:4] == ("15.2 %", own, "15.2 %", "local raw")
    by_rows = {name.strip(): cells for name, cells in rows.items() if name.startswith(" ")}
    kinds = ("unseen images", "the encoder's training images")
    unseen_row, own_row = (by_rows[f"by attackers trained on {kind}"] for kind in kinds)
    assert unseen_row[:2] == ("14.3 %", unseen) and unseen_row[4] == "6,000 unseen images"
    assert own_row[:2] == ("15.2 %", own) and own_row[4] == "5,000 own images"
    assert next(iter(rows)) == "features"
    assert rows["restored images"][0] == "13.1 %" and rows["pixels"][0] == "99.0 %"
    assert rows["an untrained encoder"][0] == "90.0 %"
    assert rows["features of the baseline run without removal"][0] == "78.7 %"
    assert "Chance is 12.5 %, the majority baseline" in notes
    assert "Power check: the attackers succeed on pixels (99.0 %)" in notes
    assert "NO BOUND CLAIMED (underpowered" not in results_text(results)


def test_claim_is_of_the_higher_upper_bound(results):
    results["privacy"] |= {"probe": patient(whole_probe()), "leakage": None}
    plain = results_text(results)
    best = results["privacy"]["probe"]["restored"]["strongest"]
    # Uneven classes: the rare ones are recognised, which plain accuracy hardly shows.
    best["balanced_ci95"] = [0.9, 0.933]
    words = (
        "Claim: the accuracy of these attackers is at most 93.3 % (from restored images; highest"
    )
    assert words in flat(results_text(results))
    best["balanced_ci95"] = [0.0, 0.01]
    assert results_text(results) == plain


def test_weak_attackers_claim_no_bound(results):
    results["privacy"] |= {"probe": whole_probe(pixels=400), "leakage": None}
    text = flat(results_text(results))
    assert (
        "NO BOUND CLAIMED (underpowered attackers): the strongest attacker reaches 40.0 %" in text
    )
    assert "no bound on the leakage is claimed: underpowered attackers" in flat(screen(results))
    results["privacy"]["probe"] = None
    assert "Not available: fresh attackers (no claim is made without" in flat(results_text(results))


def test_targets_without_attack_give_the_reason(bare_results):
    text = flat(results_text(bare_results))
    assert "restored images (there are no rows)" in text
    words = "Power checks not run: pixels; a planted leak; a run without removal"
    assert words in text


def test_gates_and_stop_rule_are_all_named(results):
    text = results_text(results)
    assert re.search(r"business .*gender accuracy ≥ 90.0 % +97.3 % +met", text)
    assert re.search(r"discriminator .*61.0 % +NOT MET", text)
    assert re.search(r"restorer .*PSNR ≥ 30.0 dB +– +not evaluated", text)
    assert "NOT MET; 2 of 7 parts not evaluated" in text
    assert re.search(r"upper bound +≤ 15.0 % +– +not evaluated", text)
    assert re.search(r"membership inference, TPR +≤ 10.0 % +– +not evaluated", text)
    assert re.search(r"gender change +≤ 1.0 % +0.0 % +met", text)
    assert re.search(r"PSNR +≥ 32.0 dB +27.3 dB +NOT MET", text)


def test_stop_rule_beyond_a_short_run_is_not_called_unmet(results):
    results["gates"]["discriminator"] |= {
        "status": "off",
        "threshold": {"privacy_balanced_accuracy": 0.0},
    }
    train = results["config"]["train"] | {"adversarial_epochs": 2, "stop_epochs": 5}
    parts = results["stop_rule"]["parts"]
    for name, part in parts.items():
        part["status"] = "not_evaluated" if name.endswith("_change") else "met"
    results["config"]["train"] = train
    text = flat(results_text(results))
    assert "NOT MET" not in text
    assert re.search(r"discriminator – – – – 61.0 % no gate set restorer", text)
    assert (
        "cannot be evaluated in full with this configuration: the rule compares 5 changes between "
        "joint epochs, and there are only 2 joint epochs; the other 5 parts are met"
    ) in text
    # A part that was evaluated and missed is named with the same reason.
    parts["psnr_db"]["status"] = "not_met"
    text = flat(results_text(results))
    assert "NOT MET; 2 of 7 parts not evaluated: the rule compares 5 changes" in text
    # With enough epochs a missing part is no excuse.
    parts["psnr_db"]["status"] = "met"
    results["config"]["train"] = train | {"adversarial_epochs": 6}
    assert "NOT MET; 2 of 7 parts not evaluated: part" in flat(results_text(results))


def _privacy(results):
    """The section on privacy as one line."""
    return flat(results_text(results).rpartition("Differential privacy:")[2])


def test_no_epsilon_is_printed_without_one(results, bare_results):
    found = _privacy(bare_results)
    assert found.startswith("- No epsilon: trained without differential privacy.")
    assert "delta" not in found
    assert "No epsilon: " not in _privacy(results)


def test_text_states_epsilon_with_its_coverage(results):
    results["dp"] |= {"epsilon_pld": 2.0712, "epsilon_rdp": 2.31, "delta": 1e-5}
    found = _privacy(results)
    assert "conditional epsilon 2.072 (PLD; RDP 2.310) at delta 1e-05" in found
    assert "No released weights have an epsilon" in found
    assert "the encoder's weights at every step are known before any batch is sampled" in found
    assert "Adversarial stopped 12 steps early: privacy budget exhausted." in found
    assert "gates and the beta schedule use the labels" in found
    results["dp"] |= {"void": True, "void_reason": "the noise multiplier is zero"}
    found = _privacy(results)
    assert "2.072" not in found and "VOID, no privacy guarantee holds: the noise mult" in found
    assert "VOID: no privacy guarantee holds: the noise mult" in screen(results)


def test_text_names_significant_group_differences_only(results):
    assert results["subgroups"]["age"]["gender"]["adjusted_p_value"] < 1e-6
    line = line_of(results_text(results), "- Unequal groups")
    assert "age by gender," in line and "for male, 100.0 % for female" in line
    equal = copy.deepcopy(results)
    for groupings in equal["subgroups"].values():
        for grouping in groupings.values():
            grouping["adjusted_p_value"] = 0.3
    assert "no significant difference" in line_of(results_text(equal), "- Unequal groups")


def test_people_not_seen_in_training_have_a_line_if_there_are_any(results, bare_results):
    figures = results["utility_unseen_people"]["gender"]
    line = line_of(results_text(results), "- People not seen")
    assert f"gender {100 * figures['accuracy']:.1f} %" in line
    assert f"on {figures['n']} images" in line
    assert "People not seen" not in results_text(bare_results)


def test_missing_parts_give_the_reason(bare_results):
    found = results_text(bare_results)
    assert "Restored images: none, the model has no restorer." in found
    assert "none, the model has no discriminator." in flat(found)
    assert "Stop rule: not evaluated in this run." in found
    assert "None" not in found and "nan" not in found


def test_label_notes_are_below_the_task_table(results):
    results["evaluated_on"] |= {"label_note": "LFW labels are classifier scores", "notes": ["x"]}
    lines = results_text(results).splitlines()
    assert "Note: LFW labels are classifier scores" in lines and "Note: x" in lines
    assert "LFW labels are classifier scores" in line_of(screen(results), "Note")


def test_run_files_are_listed_with_whole_paths(results, tmp_path):
    for name in ("results.json", "config.json", "other"):
        (tmp_path / name).touch()
    files = run_files(tmp_path)
    assert list(files) == [str(tmp_path / "results.json"), str(tmp_path / "config.json")]
    assert str(tmp_path / "results.json") in results_text(results, files)
    for name in ("results_lfw.json", "restored_lfw.png"):
        (tmp_path / name).touch()
    found = [path.removeprefix(f"{tmp_path}/") for path in run_files(tmp_path, "results_lfw.json")]
    assert found == ["results_lfw.json", "restored_lfw.png", "config.json"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_show_substitutes_characters_the_terminal_lacks(results, encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    show(results_text(results) + screen(results), stream)
    text = raw.getvalue().decode(encoding)
    assert "?" not in text and ("≥" if encoding == "utf-8" else ">=") in text
