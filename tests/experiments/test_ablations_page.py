"""experiments/ablations/page.py, and the pages whose figures come from docs/results."""

import json
import re

import pytest

from experiments.ablations import page
from experiments.ablations.page import TABLES, filled, main
from tf_mtl_privacy.privacy.noise_record import NOISE

DOCS = page.ROOT / "docs"


def figures(psnr, **rates):
    return {"gender": 0.975, "age": 0.5, "expression_f1": 0.25, "psnr_db": psnr, **rates}


def cells(lines):
    return [line[2:-2].split(" | ") for line in lines[2:]]


def test_the_committed_page_is_what_the_command_writes():
    assert main(["--check"]) == 0


def test_ablations_table_matches_values_worked_by_hand():
    one = figures(
        30.04,
        discriminator=0.1,
        probe_features=0.884,
        probe_features_high=0.897,
        probe_restored=0.2,
        probe_restored_high=0.21,
    )
    # Rows come in the order of the descriptions, whatever the order of the file.
    found = {"rows": {"mask": {"figures": one | {"gender": 0.8}}, "nothing": {"figures": one}}}
    rows = cells(TABLES["ablations"](found))
    assert [row[0] for row in rows] == ["`nothing`", "`mask`"]
    expected = ["97.5 %", "50.0 %", "25.0 %", "30.0 dB", "10.0 %", "88.4 % (89.7)", "20.0 % (21.0)"]
    assert rows[0][2:] == expected and rows[1][2] == "80.0 %"


def test_reader_table_matches_values_worked_by_hand():
    def reading(value, high):
        return {"accuracy": value, "ci95": [0.0, high]}

    row = figures(
        24.26,
        discriminator=reading(0.27, 0.29),
        features=reading(0.88, 0.9),
        restored=reading(0.24, 0.26),
    )
    (cell,) = cells(TABLES["reader"]({"rows": {"plain_reader": row}}))
    assert cell[5:] == ["24.3 dB", "27.0 % (29.0)", "88.0 % (90.0)", "24.0 % (26.0)"]


def test_model_table_matches_values_worked_by_hand():
    own = {"gender": 0.984, "age": 0.9, "expression_f1": 0.98, "seconds": 3599.6}
    probed = {"probe_features": 0.77, "probe_features_high": 0.788}
    games = own | probed | {"psnr_db": 36.0, "discriminator": 0.123, "epsilon_conditional": 0.4996}
    models = {name: {"figures": games} for name in ("mtl_adv", "mtl_dp", "mtl_adv_dp")}
    models |= {"stl": {"figures": own | probed}, "dp_scope_all": {"figures": own | probed}}
    rows = {row[0]: row[1:] for row in cells(TABLES["model_table"]({"models": models}))}
    # The paper: gender 95.2 % with STL; PSNR 32.8 dB and D 12.5 % with MTL-Adv-DP.
    assert rows["gender"][0] == "98.4 % (95.2 %)" and rows["gender"][4] == "98.4 %"
    assert rows["restored images"][0] == rows["restored images"][4] == ""
    assert rows["restored images"][3] == "36.0 dB (32.8 dB)"
    assert rows["in-loop D"][0] == "(89.7 %)" and rows["in-loop D"][3] == "12.3 % (12.5 %)"
    assert rows["attacker on features"][1] == "77.0 % [78.8]"
    assert rows["epsilon of D, conditional: stated, does not hold"][2] == "0.50"
    today = cells(TABLES["model_table"]({"models": models, "noise": NOISE}))
    assert [row[3] for row in today if row[0] == "epsilon of D, conditional"] == ["0.50"]
    # 59 min 59.6 s are an hour.
    assert rows["training"][0] == "60 min 0 s"


def test_frontier_table_lists_a_point_without_a_game_once():
    def point(objective, beta, mask, probe):
        rates = {"gender": 0.9, "psnr_db": 23.0, "probe": probe, "probe_restored": 0.2}
        return {"objective": objective, "beta": beta, "mask": mask, "ci95": [0.1, 0.95], **rates}

    points = [
        point("paper", 3.0, False, 0.84),
        point("confusion", 0.0, False, 0.88),
        point("paper", 0.0, False, 0.88),
        point("confusion", 0.3, True, 0.12),
    ]
    rows = cells(TABLES["frontier"]({"points": points}))
    assert [row[:3] for row in rows] == [
        ["no game", "0", "no"],
        ["`paper`", "3", "no"],
        ["`confusion`", "0.3", "yes"],
    ]
    assert rows[1][3:] == ["90.0 %", "23.0 dB", "84.0 % (95.0)", "20.0 %"]


def test_filled_replaces_tables_and_keeps_the_text(tmp_path):
    levels = {"p50": 1.04, "p95": 2.0, "p100": 3.0}
    residue = tmp_path / "mask_residue.json"
    residue.write_text(json.dumps({"picture_levels": levels, "seen_levels": levels}))
    text = (
        "# Title\n\nBefore. <!-- table: mask_residue -->\n\nAfter.\n\n| own | table |\n|---|---|\n"
    )
    once = filled(text, tmp_path)
    assert once.startswith("# Title\n\nBefore. <!-- table: mask_residue -->\n\n|  | 50 % of faces")
    assert "| in the picture | 1.0 | 2.0 | 3.0 |\n" in once
    assert once.endswith("|\n\nAfter.\n\n| own | table |\n|---|---|\n")
    assert filled(once, tmp_path) == once
    residue.write_text(json.dumps({"picture_levels": levels | {"p50": 9.0}, "seen_levels": levels}))
    again = filled(once, tmp_path)
    assert again == once.replace("| in the picture | 1.0 |", "| in the picture | 9.0 |")


def test_check_with_a_changed_figure_fails_and_writes_nothing(tmp_path, capsys):
    path = tmp_path / "ablations.md"
    committed = (DOCS / "ablations.md").read_text(encoding="utf-8")
    path.write_text(committed.replace("88.4 % (89.7)", "12.5 % (13.0)"), encoding="utf-8")
    changed = path.read_text(encoding="utf-8")
    assert changed != committed
    assert main([f"--page={path}", "--check"]) == 1
    assert "differs" in capsys.readouterr().err and path.read_text(encoding="utf-8") == changed
    assert main([f"--page={path}"]) == 0
    assert path.read_text(encoding="utf-8") == committed


def test_main_with_wrong_input_prints_one_line(tmp_path, capsys):
    path = tmp_path / "page.md"
    path.write_text("<!-- table: nonsense -->\n")
    assert main([f"--page={path}"]) == 1
    assert "table: nonsense: no such table" in capsys.readouterr().err
    path.write_text("<!-- table: mask_residue -->\n")
    (tmp_path / "mask_residue.json").write_text("{}")
    assert main([f"--page={path}", f"--results={tmp_path}"]) == 1
    assert "mask_residue.json: no 'picture_levels'" in capsys.readouterr().err
    assert main([f"--page={tmp_path}/none.md"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def numbers(value):
    if isinstance(value, dict):
        return [number for part in value.values() for number in numbers(part)]
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def unsourced(part):
    """Figures of a text that are no rounding of a number in the results files that it links."""
    files = re.findall(r"results/(\w+)\.json", part)
    known = [
        n for f in files for n in numbers(json.loads((DOCS / f"results/{f}.json").read_text()))
    ]
    rates = {f"{100 * n:.1f}" for n in known} | {f"{n:.1f}" for n in known}
    prose = "\n".join(line for line in part.splitlines() if not line.startswith(("|", "![")))
    return [figure for figure in re.findall(r"\d+\.\d(?!\d)", prose) if figure not in rates]


@pytest.mark.parametrize(
    ("name", "start"), [("ablations.md", "\n## "), ("lessons.md", "\n- ")], ids=lambda text: text
)
def test_figures_of_a_page_are_in_the_files_it_links(name, start):
    _, *parts = (DOCS / name).read_text(encoding="utf-8").split(start)
    assert len(parts) >= 5
    # An epsilon of 0.5 is asked for, not measured.
    texts = [re.sub(r"epsilon (?:of )?0\.5\b", "epsilon", part) for part in parts]
    assert [figure for text in texts for figure in unsourced(text)] == []
    assert sum(len(re.findall(r"results/\w+\.json", text)) for text in texts) >= 5


def test_unsourced_sees_a_figure_that_is_in_no_file():
    link = "[residue](results/mask_residue.json)"
    assert unsourced(f"31.1 % and 31.2 % {link}") == ["31.2"]
    assert unsourced(f"31.1 % {link}\n| 99.9 |") == []


def test_the_pages_are_short_and_lessons_are_ten():
    assert len((DOCS / "ablations.md").read_text(encoding="utf-8").splitlines()) <= 120
    lessons = (DOCS / "lessons.md").read_text(encoding="utf-8")
    assert len(re.findall(r"^- ", lessons, re.MULTILINE)) == 10
