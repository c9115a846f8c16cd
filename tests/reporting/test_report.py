"""The report: its figures, its missing parts, and that it is self-contained."""

import html
import re
import stat
from html.parser import HTMLParser

import pytest

from tests.reporting.audits import make_audit
from tests.reporting.report.parts import blocks, table
from tests.reporting.report.runs import kept_results, write_run
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.reporting.build import build_report, write_report
from tf_mtl_privacy.reporting.document import Items, Missing, Notice, Table
from tf_mtl_privacy.reporting.privacy_card import epsilon
from tf_mtl_privacy.reporting.render_html import report_html
from tf_mtl_privacy.reporting.render_markdown import report_markdown
from tf_mtl_privacy.reporting.runs import read_run, run_figures
from tf_mtl_privacy.reporting.sections.comparison import comparison_table


class Page(HTMLParser):
    """Tags that are open, addresses, and texts for who cannot see pictures."""

    def __init__(self, text):
        super().__init__()
        self.open, self.addresses, self.alts, self.ids = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.addresses += [found[name] for name in ("src", "href") if name in found]
        self.alts += [found["alt"]] if tag == "img" else []
        self.ids += [found["id"]] if "id" in found else []
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_report_html_is_valid_and_self_contained(whole):
    text = report_html(whole)
    page = Page(text)
    assert page.open == [] and len(page.ids) == len(set(page.ids))
    assert all(a.startswith(("data:", "#")) for a in page.addresses)
    assert "<script" not in text and "@import" not in text and "url(" not in text
    assert len(page.alts) == 7 and all(len(alt) > 60 for alt in page.alts)


def test_report_escapes_names(whole, whole_run):
    text = report_html(whole)
    assert "<b>" not in text and html.escape(whole_run.name) in text
    markdown = report_markdown(whole, "report")
    outside = "".join(markdown.split("```")[::2])
    assert "<b>" not in outside and "\\<b\\>" in outside
    # Commands are as a shell takes them.
    assert f"--run_dir='{whole_run.folder}'" in markdown
    assert "\\*demo\\*" in markdown


def test_tiles_have_the_figures_of_the_run(whole):
    results = kept_results()
    shown = {tile.title: tile for tile in whole.tiles}
    # What this run gives away, by every attacker: the largest figure and the largest upper end.
    probe = results["privacy"]["probe"]
    given = [probe[name] for name in ("features", "restored", "regions", "logits")]
    read = max(a[kind] for part in given for a in part["attackers"].values() for kind in BOTH)
    # An attacker that was not chosen has no interval in the file: Wilson's of its figure.
    high = max(
        wilson_interval(max(a[kind] for kind in BOTH) * part["strongest"]["n"], 2000)[1]
        for part in given
        for a in part["attackers"].values()
    )
    best = probe["features"]["strongest"]
    pixels = results["privacy"]["probe"]["pixels"]["strongest"]
    before = results["privacy"]["probe"]["before_game"]["balanced_accuracy"]
    leak = shown["Accuracy of a fresh attacker on the iris"]
    # The larger one of plain and balanced accuracy, on both sides of the arrow.
    source = max(pixels["accuracy"], pixels["balanced_accuracy"])
    assert leak.value == f"{100 * source:.1f} % → {100 * read:.1f} %"
    assert f"Features, balanced: {100 * before:.1f} % before adversarial training" in leak.note
    assert f"{100 * best['balanced_accuracy']:.1f} % now" in leak.note
    assert f"upper bound {100 * high:.1f} %" in leak.note and "chance 12.5 %" in leak.note
    assert (
        shown["Gender accuracy"].value == f"{100 * results['utility']['gender']['accuracy']:.1f} %"
    )
    assert shown["Restored images, PSNR"].value == f"{results['restoration']['psnr_db']:.1f} dB"
    epsilon = shown["Epsilon of released weights"]
    assert epsilon.value == "none" and "the discriminator's updates alone" in epsilon.note
    # The audit of tests/reporting/audits.py.
    assert shown["Membership inference"].value == "5.8 %"


def test_paper_tables_have_its_figures_and_ours(whole):
    rows = {row.cells[:2]: row.cells[2:] for row in table(whole, "Table 1").rows}
    assert rows["STL", "the paper"] == ("CelebA", "95.2 %", "78.6 %", "81.3 %", "–")
    assert rows["MTL-Adv-DP", "the paper"] == ("CelebA", "97.3 %", "84.5 %", "85.7 %", "32.8 dB")
    ours = rows["MTL-Adv-DP", "<b>*demo*&amp;"]
    utility = kept_results()["utility"]
    assert ours[0] == "synthetic_faces, 2,000"
    assert ours[1:4] == tuple(
        f"{100 * utility[task][name]:.1f} %"
        for task, name in (("gender", "accuracy"), ("age", "accuracy"), ("expression", "f1"))
    )
    second = {row.cells[:2]: row.cells[2:] for row in table(whole, "Table 2").rows}
    assert second["STL", "the paper"] == ("93.5 %", "76.2 %")
    assert second["MTL-Adv-DP", "the paper"] == ("96.1 %", "82.3 %")
    assert second["MTL-Adv-DP", "<b>*demo*&amp;"] == ("88.1 %", "70.0 %")
    third = {row.cells[:2]: row.cells[2:] for row in table(whole, "Table 3").rows}
    nobody = ("not measured", "not measured")
    assert third["STL", "the paper"] == ("89.7 %", *nobody, "82.5 %", "–")
    assert third["MTL-Adv", "the paper"] == ("23.6 %", *nobody, "18.2 %", "–")
    assert third["MTL-DP", "the paper"] == ("19.8 %", *nobody, "15.7 %", "0.5")
    assert third["MTL-Adv-DP", "the paper"] == ("12.5 %", *nobody, "7.3 %", "0.5")
    assert third["MTL-Adv-DP", "<b>*demo*&amp;"][3] == "5.8 %, upper bound 6.6 %"
    assert third["MTL-DP", "off"][3] == "not measured"


def test_report_calls_every_conditional_epsilon_conditional(whole, whole_run):
    dp = whole_run.results["dp"]
    assert dp["conditional"]["discriminator"] == dp["epsilon_pld"]
    values = [dp["epsilon_pld"], *(part["epsilon_pld"] for part in dp["phases"].values())]
    figures = [re.escape(epsilon(value)) for value in values]
    lines = report_markdown(whole, "report").splitlines()
    shown = [line for line in lines if re.search(rf"\b({'|'.join(figures)})\b", line)]
    # The tile, the summary twice, the card's table and claims, what is not protected, Table 3, the
    # runs beside it, the curve.
    assert len(shown) >= 8
    assert [line for line in shown if "conditional" not in line] == []
    (tile,) = [tile for tile in whole.tiles if "Epsilon" in tile.title]
    assert "by itself protects nobody in the training set" in tile.note


def test_paper_tables_note_differences_from_the_paper(whole):
    notes = " ".join(table(whole, "Table 1").notes)
    assert "not the same task" in notes and "one of 4 groups" in notes
    assert "That is not the leakage" in " ".join(table(whole, "Table 3").notes)


def test_comparison_has_differences_from_the_first_run(whole, other_run):
    found = table(whole, "This run and others")
    assert found.header[2] == "off"
    gender = next(row.cells for row in found.rows if row.cells[0] == "gender accuracy")
    ours, theirs = kept_results(), other_run.results
    difference = theirs["utility"]["gender"]["accuracy"] - ours["utility"]["gender"]["accuracy"]
    assert gender[2].endswith(f"({100 * difference:+.1f})")
    assert any("DO NOT USE THE SAME DATA" in note for note in found.notes)
    assert any("the mask, not the adversarial game" in note for note in found.notes)


def test_comparison_of_a_rounded_zero_has_no_minus(whole_run):
    less = kept_results()
    less["utility"]["gender"]["accuracy"] -= 1e-5
    other = whole_run._replace(results=less, figures=run_figures(less))
    row = next(r for r in comparison_table([whole_run, other]).rows if "gender" in r.cells[0])
    assert row.cells[2].endswith("(+0.0)")


def test_report_of_a_bare_run_names_all_missing_parts(bare):
    found = {block.what: block for block in blocks(bare, Missing)}
    commands = " ".join(block.command for block in found.values())
    for flags in ("audit", "evaluate"):
        assert f"tf_mtl_privacy.{flags} --run_dir=" in commands
    assert "--probe=fast" in commands and "--dataset=lfw" in commands
    assert {"fresh attackers", "Figure 2", "restored faces"} <= set(found)
    assert any("metrics.jsonl" in what for what in found)
    assert any("ROC" in what for what in found)
    assert {tile.value for tile in bare.tiles} >= {"not measured"}
    assert all(block.command or block.why for block in found.values())


BOTH = ("accuracy", "balanced_accuracy")
KINDS = ("photographs_erased", "photographs_dp_all", "synthetic_dp_all", "synthetic_removal_off")


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_stored_result_has_a_report(name, tmp_path):
    run = read_run(write_run(tmp_path / name, kept_results(name), audit=False, pictures=False))
    report = build_report(run)
    text = report_html(report)
    Page(text)
    assert "None" not in re.sub(r"base64,[^\"]+|<code>[^<]*", "", text)
    released = set(run.results["dp"]["released"].values()) - {None}
    card = table(report, "Epsilon of the released weights")
    assert ("none" in {row.cells[1] for row in card.rows}) is not bool(released)
    refused = bool(run.figures.refused or run.figures.underpowered)
    assert refused is any("NO BOUND CLAIMED" in block.text for block in blocks(report, Notice))
    protected = next(b for b in blocks(report, Items, "card") if b.heading == "Not protected")
    assert len(protected.items) >= 4


def test_pictures_of_people_are_shown_on_request_only(tmp_path):
    # The demo's epsilon is drawn sooner.
    people = kept_results("photographs") | {"dp": kept_results()["dp"]}
    without = build_report(read_run(write_run(tmp_path / "a", people, pictures=False)))
    assert any("--log_images" in block.why for block in blocks(without, Missing, "pictures"))
    first = " ".join(table(without, "Table 1").notes)
    assert "own test split has 19,962 images, this run was tested on 115" in first
    asked = build_report(read_run(write_run(tmp_path / "b", people)))
    assert any("real people" in block.text for block in blocks(asked, Notice, "pictures"))


def test_report_ignores_the_audit_of_another_run(tmp_path):
    other = kept_results("synthetic_seed1")
    report = build_report(read_run(write_run(tmp_path / "a", audit=make_audit(other))))
    (missing,) = blocks(report, Missing, "audit")
    assert "of another run" in missing.why
    assert report.tiles[-1].value == "not measured"


def test_report_puts_a_contradiction_first(tmp_path):
    audit = make_audit(kept_results(), contradictions=["epsilon is at least 3, claimed 2"])
    report = build_report(read_run(write_run(tmp_path / "a", audit=audit)))
    assert report.warnings == ("CONTRADICTED: epsilon is at least 3, claimed 2",)
    text = report_html(report)
    assert text.index("epsilon is at least 3") < text.index("<dl")


def test_markdown_has_the_same_and_its_pictures_are_beside_it(whole, tmp_path):
    page = tmp_path / "x.html"
    files = write_report(whole, page)
    assert list(files) == [str(page), str(tmp_path / "x.md"), str(tmp_path / "x")]
    markdown = (tmp_path / "x.md").read_text(encoding="utf-8")
    names = re.findall(r"\]\(x/(\w+)\.png\)", markdown)
    assert sorted(names) == sorted(path.stem for path in (tmp_path / "x").iterdir())
    assert len(names) == 7
    for section in whole.sections:
        assert f"## {section.title}" in markdown
    for found in blocks(whole, Table):
        first = [line for line in markdown.splitlines() if line.startswith("| ")]
        assert any(line.count("|") == len(found.header) + 1 for line in first)
    modes = {stat.S_IMODE(path.stat().st_mode) & 0o077 for path in tmp_path.rglob("*")}
    assert modes == {0}


def test_wrong_folders_are_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--run_dir=.*nowhere: no such folder"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"--compare=.*nowhere"):
        read_run(tmp_path / "nowhere", "compare")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match=r"has no results\.json: finish training"):
        read_run(tmp_path / "empty")
    old = write_run(tmp_path / "old", audit=make_audit() | {"schema_version": 9})
    with pytest.raises(RunError, match="schema_version is 9, expected 1; audit the run again"):
        read_run(old)


def test_metrics_with_an_unfinished_last_line_are_read(tmp_path):
    folder = write_run(tmp_path / "a")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"phase": "adv')
    assert len(read_run(folder).metrics) == 7
