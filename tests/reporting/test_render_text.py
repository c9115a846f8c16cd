"""Plain text of tables and fields: alignment, wrapping, and tables too wide for columns."""

from tf_mtl_privacy.reporting.document import Fields, Missing, Row, Section, Table
from tf_mtl_privacy.reporting.render_text import cut, render_text, terminal_width


def table(*rows, header=("name", "figure"), caption=""):
    return Table(caption, header, tuple(map(Row, rows)))


def test_render_text_table_aligns_figures_to_the_right():
    text = render_text([table(("a", "1.5 %"), ("bb", "10.0 %"))])
    assert text.splitlines() == ["name  figure", "────────────", "a      1.5 %", "bb    10.0 %"]


def test_render_text_narrow_table_wraps_the_widest_column_and_keeps_units():
    long = table(("a", "words that go on and on to 12.5 % of all"), header=("name", "words"))
    lines = render_text([long], width=20).splitlines()
    assert max(map(len, lines)) <= 20 and any("12.5 %" in line for line in lines)
    assert " ".join(line[6:].strip() for line in lines[2:]) == long.rows[0].cells[1]


def test_render_text_table_without_room_for_columns_becomes_records():
    wide = table(("one", *["abcdefghijkl"] * 4), header=("", "a", "b", "c", "d"))
    assert render_text([wide], width=40).splitlines() == [
        "one",
        *(f"  {name}: abcdefghijkl" for name in "abcd"),
    ]


def test_render_text_fields_put_long_labels_on_their_own_line():
    text = render_text([Fields((("a", ("x",)), ("b" * 30, ("y",)), ("empty", ())))], width=40)
    assert text.splitlines() == [f"a{'x':>22}", "b" * 30, f"{'y':>23}"]


def test_render_text_commands_stay_whole():
    command = "python -m tf_mtl_privacy.audit " + "--flag=value " * 10 + "--last=1"
    section = Section("a", "Title", (Missing("it", command, "a reason"),))
    lines = render_text([section], width=40).splitlines()
    assert lines[0] == "Title" and f"  {command}" in lines


def test_cut_marks_omitted_text():
    words = "word " * 60
    short = cut(words, 80, 2)
    assert short.endswith(" ...") and len(short) <= 2 * (80 - 24)
    assert cut("short", 80, 1) == "short"


def test_terminal_width_is_bounded(monkeypatch):
    for columns, width in (("200", 100), ("20", 60), ("80", 80)):
        monkeypatch.setenv("COLUMNS", columns)
        assert terminal_width() == width
