"""The table for the terminal: what it says, what it must not say, and its width."""

import copy
import io

import pytest
from scipy.stats import beta

from tests.reporting.probes import patient, whole_probe
from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.reporting.formats import show
from tf_mtl_privacy.reporting.run_files import run_files
from tf_mtl_privacy.reporting.tables import results_table


def _line(table, start):
    return next(line for line in table.splitlines() if line.startswith(start))


def test_figures_of_a_task_stand_in_its_line(results):
    figures = results["utility"]["age"]
    cells = _line(results_table(results), "age").split("  ")
    cells = [cell.strip() for cell in cells if cell.strip()]
    low, high = figures["ci95"]
    assert cells == [
        "age",
        f"{100 * figures['accuracy']:.1f} %",
        f"{100 * low:.1f}–{100 * high:.1f} %",
        f"{100 * figures['balanced_accuracy']:.1f} %",
        f"{100 * figures['f1']:.1f} %",
        f"{100 * figures['majority']:.1f} %",
        f"{100 * figures['accuracy']:.1f} %",
        str(figures["n"]),
    ]


def test_no_line_is_wider_than_100_columns(results, bare_results):
    results["utility"]["a_task_with_a_very_long_name_indeed"] = results["utility"]["age"]
    results["evaluated_on"]["label_note"] = "labels are the scores of a classifier " * 5
    results["dp"]["reason"] = "because of this and that " * 20
    for found in (results, bare_results):
        assert max(map(len, results_table(found).splitlines())) <= 100


def test_the_discriminator_is_not_called_leakage(results):
    table = results_table(results)
    assert "In-loop discriminator" in table
    assert "This is not the leakage" in table
    assert "chance 12.5 %" in table and "majority" in table


def _attackers(results):
    """The table's lines on fresh attackers, as one line."""
    text = results_table(results).partition("Fresh attackers")[2]
    return " ".join(text.partition("In-loop")[0].split())


def test_fresh_attackers_stand_beside_what_guessing_gives(results):
    found = _attackers(results)
    own = f"{100 * wilson_interval(152, 1000)[1]:.1f} %"
    # Of the two attackers of unseen rows together: exact at half of 5 % each, or more.
    bound = results["privacy"]["probe"]["features"]["bound"]
    assert bound["accuracy"] == pytest.approx(beta.ppf(1 - 0.0125, 144, 1000 - 143))
    unseen = f"{100 * max(bound['accuracy'], bound['balanced_accuracy']):.1f} %"
    assert found.startswith(f"worst: 15.2 % from features (upper end {own}); chance 12.5 %")
    assert (
        f"features: 15.2 % (upper end {own}), balanced 15.2 %, by local_raw, thorough attackers; "
        f"of these 14.3 % (upper end {unseen}) learned from 6,000 unseen rows, 15.2 % (upper end "
        f"{own}) learned from 5,000 rows that the encoder was trained on"
    ) in found
    assert "restored images: 13.1 %" in found
    assert "pixels: 99.0 %" in found and "untrained encoder: 90.0 %" in found
    assert "with removal off: 78.7 %" in found
    assert "chance 12.5 %, majority" in found
    assert "UNDERPOWERED" not in found


def test_the_claim_is_of_the_figure_that_ends_higher(results):
    results["privacy"] |= {"probe": patient(whole_probe()), "leakage": None}
    plain = _attackers(results)
    best = results["privacy"]["probe"]["restored"]["strongest"]
    # Uneven classes: the rare ones are read, which plain accuracy hardly shows.
    best["balanced_ci95"] = [0.9, 0.933]
    assert "claim: at most 93.3 % is read by these attackers, from restored images" in _attackers(
        results
    )
    best["balanced_ci95"] = [0.0, 0.01]
    assert _attackers(results) == plain


def test_weak_attackers_claim_nothing(results):
    results["privacy"] |= {"probe": whole_probe(pixels=400), "leakage": None}
    found = _attackers(results)
    assert "UNDERPOWERED: NO CLAIM: the strongest attacker reads 40.0 % from pixels" in found
    results["privacy"]["probe"] = None
    assert _attackers(results).startswith("not measured, so nothing is claimed")


def test_targets_that_were_not_attacked_say_why(bare_results):
    found = _attackers(bare_results)
    assert "restored images: not measured: there are no rows" in found
    assert "strength not checked on pixels, a planted leak, a run with removal off" in found


def test_gates_and_stop_rule_are_all_named(results):
    table = results_table(results)
    assert "business       met            gender accuracy 97.3 % (≥ 90.0 %)" in table
    assert "discriminator  NOT MET        its balanced accuracy 61.0 % (≥ 80.0 %)" in table
    assert "restorer       not evaluated  PSNR (≥ 30.0 dB)" in table
    assert "NOT MET; 2 of 7 parts not evaluated" in table
    assert "not evaluated  leakage to a fresh attacker (≤ 15.0 %)" in table
    assert "not evaluated  membership inference (≤ 10.0 %)" in table
    assert "met            gender change 0.0 % (≤ 1.0 %)" in table
    assert "NOT MET        PSNR 27.3 dB (≥ 32.0 dB)" in table


def test_rule_that_a_short_setting_cannot_meet_is_not_called_unmet(results):
    results["gates"]["discriminator"] |= {
        "status": "off",
        "threshold": {"privacy_balanced_accuracy": 0.0},
    }
    train = results["config"]["train"] | {"adversarial_epochs": 2, "stop_epochs": 5}
    parts = results["stop_rule"]["parts"]
    for name, part in parts.items():
        part["status"] = "not_evaluated" if name.endswith("_change") else "met"
    results["config"]["train"] = train
    table = " ".join(results_table(results).split())
    assert "NOT MET" not in table
    assert "discriminator no gate set its balanced accuracy 61.0 % restorer" in table
    assert (
        "the paper's rule is not evaluated as a whole in this setting: it looks at 5 changes "
        "between joint epochs, and this setting has 2 of these epochs; the other 5 parts are met"
    ) in table
    # A part that was looked at and missed is named in the same setting, and so is the reason.
    parts["psnr_db"]["status"] = "not_met"
    table = " ".join(results_table(results).split())
    assert "NOT MET; 2 of 7 parts not evaluated: it looks at 5 changes" in table
    # With enough epochs a part that is missing is no excuse.
    parts["psnr_db"]["status"] = "met"
    results["config"]["train"] = train | {"adversarial_epochs": 6}
    assert "NOT MET; 2 of 7 parts not evaluated met" in " ".join(results_table(results).split())


def _privacy(results):
    """The table's lines on differential privacy, as one line."""
    return " ".join(results_table(results).partition("Differential privacy")[2].split())


def test_no_epsilon_is_printed_without_one(results, bare_results):
    found = _privacy(bare_results)
    assert found.startswith("no epsilon is stated: trained without differential privacy")
    assert "delta" not in found
    assert "no epsilon is stated" not in _privacy(results)


def test_an_epsilon_is_printed_with_what_it_covers(results):
    results["dp"] |= {"epsilon_pld": 2.0712, "epsilon_rdp": 2.31, "delta": 1e-5}
    found = _privacy(results)
    assert "epsilon 2.072 (PLD; RDP 2.310) at delta 1e-05" in found
    assert "NO released weight has an epsilon" in found
    assert "conditional on the encoder's whole trajectory" in found
    assert "adversarial ended 12 steps early: its budget was spent" in found
    assert "gates and the schedule of beta read the labels" in found
    results["dp"] |= {"void": True, "void_reason": "the noise multiplier is zero"}
    found = _privacy(results)
    assert "2.072" not in found and "VOID, nothing is protected: the noise mult" in found


def test_a_difference_beyond_chance_is_named_and_others_are_not(results):
    assert results["subgroups"]["age"]["gender"]["adjusted_p_value"] < 1e-6
    line = _line(results_table(results), "Unequal groups")
    assert "age by gender:" in line and "for male, 100.0 % for female" in line
    equal = copy.deepcopy(results)
    for groupings in equal["subgroups"].values():
        for grouping in groupings.values():
            grouping["adjusted_p_value"] = 0.3
    assert "no difference beyond chance" in _line(results_table(equal), "Unequal groups")


def test_people_not_seen_in_training_have_a_line_where_there_are_any(results, bare_results):
    figures = results["utility_unseen_people"]["gender"]
    line = _line(results_table(results), "People not seen")
    assert f"gender {100 * figures['accuracy']:.1f} %" in line
    assert f"on {figures['n']} rows of new people" in line
    assert "People not seen" not in results_table(bare_results)


def test_what_is_not_there_is_said(bare_results):
    found = results_table(bare_results)
    assert "none: the model has no restorer" in found
    assert "none: the model has no discriminator" in found
    assert "Stop rule (validation)  not evaluated" in found
    assert "None" not in found and "nan" not in found


def test_notes_about_labels_stand_under_the_title(results):
    results["evaluated_on"] |= {"label_note": "LFW labels are classifier scores", "notes": ["x"]}
    lines = results_table(results).splitlines()
    assert lines[2] == "Note: LFW labels are classifier scores" and lines[3] == "Note: x"


def test_files_are_listed_whole(results, tmp_path):
    for name in ("results.json", "config.json", "other"):
        (tmp_path / name).touch()
    files = run_files(tmp_path)
    assert list(files) == [str(tmp_path / "results.json"), str(tmp_path / "config.json")]
    assert str(tmp_path / "results.json") in results_table(results, files)
    for name in ("results_lfw.json", "restored_lfw.png"):
        (tmp_path / name).touch()
    found = [path.removeprefix(f"{tmp_path}/") for path in run_files(tmp_path, "results_lfw.json")]
    assert found == ["results_lfw.json", "restored_lfw.png", "config.json"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_can_show_it(results, encoding):
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    show(results_table(results), stream)
    text = raw.getvalue().decode(encoding)
    assert "?" not in text and ("≥" if encoding == "utf-8" else ">=") in text
