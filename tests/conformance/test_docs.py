"""Pages are complete, their links resolve, and the site builds without warnings."""

import inspect
import re
import types
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

import tf_mtl_privacy

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *EXPERIMENTS.rglob("*.md")])
UNFINISHED = re.compile(
    r"\b(?:TODO|TBD|FIXME|XXX|lorem ipsum|coming soon|to be (?:written|done|added))\b"
    r"|\{\{.*?\}\}|\$\{\w+\}|\{[A-Z_]{2,}\}|<(?:INSERT|YOUR|FILL)[^>]*>|\?\?\?",
    re.IGNORECASE,
)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# Resources that a browser would fetch from another host to show a page.
FETCHED = re.compile(
    r"""(?:\ssrc=["']?|<link[^>]*href=["']?|url\(["']?|@import ["'])((?:https?:)?//[^"')>\s]+)"""
)


def prose(text: str) -> str:
    """The text of a page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub forms them."""
    heads = re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", head.lower()) for head in heads]
    return {head.replace(" ", "-") for head in plain}


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for link in LINK.findall(prose(text)):
        if link.startswith(("https://", "http://", "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        inside = target.resolve().is_relative_to(ROOT) and not name.startswith("/")
        there = inside and target.exists()
        if not there or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    return broken


def headless_rows(text: str) -> list[str]:
    """First rows of tables without a header; a blank line inside a table makes one."""
    tables = re.findall(r"(?:^ *\|.*\n?)+", prose(text), re.MULTILINE)
    rows = [table.strip().splitlines() for table in tables]
    ruled = re.compile(r" *\|(?: *:?-+:? *\|)+ *")
    return [lines[0] for lines in rows if not (len(lines) > 1 and ruled.fullmatch(lines[1]))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_page_is_complete_and_its_links_resolve(page):
    text = page.read_text(encoding="utf-8")
    assert UNFINISHED.findall(text) == []
    assert broken_links(page, text) == []
    assert headless_rows(text) == []


def test_page_checks_find_planted_mistakes():
    for text in ("TODO: more", "coming soon", "{{ name }}", "${HOME}", "<YOUR FOLDER>", "a ???"):
        assert UNFINISHED.search(text), text
    for text in ("results_lfw_<fingerprint>.json", "config.<section>", '{"a": 1}', "to doubt"):
        assert not UNFINISHED.search(text), text
    text = "[a](docs/none.md) [b](README.md#none) [c](/etc/hosts) [d](README.md) [e](docs)"
    assert broken_links(ROOT / "README.md", text) == [
        "docs/none.md",
        "README.md#none",
        "/etc/hosts",
    ]


def test_page_checks_find_a_table_cut_by_a_blank_line():
    whole = "| a | b |\n|---|:-:|\n| 1 | 2 |\n| 3 | 4 |\n"
    assert headless_rows(f"text\n\n{whole}\n```\n| code |\n```\n\n{whole}") == []
    assert headless_rows(whole.replace("| 3", "\n| 3")) == ["| 3 | 4 |"]
    assert headless_rows(whole.replace("| 1", "\n| 1") + "\ntext\n") == ["| 1 | 2 |"]


def test_page_checks_find_external_resources():
    seen = """<script src="https://a.b/c.js"> <link rel=x href=//a.b/d.css> url(http://a.b/e)"""
    assert len(FETCHED.findall(seen)) == 3
    assert FETCHED.findall('<a href="https://a.b"> <img src="x.png"> url(y.svg)') == []


def test_readme_sets_up_the_environment_before_commands():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make demo" in text[: text.index(". .venv/bin/activate")]
    assert text.index(". .venv/bin/activate") < text.index("\npython -m tf_mtl_privacy.")


def test_readme_python_calls_public_functions(monkeypatch, capsys):
    """Runs the example with functions that check their arguments and train nothing."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    bundle = types.SimpleNamespace(encoder="the encoder")
    answers = {
        "fit": None,
        "evaluate_run": {"privacy": {"leakage": {"worst": "the worst"}}},
        "audit_run": {"membership": {"verdict": "the verdict"}},
        "load_run": types.SimpleNamespace(bundle=bundle),
    }
    calls = []

    def replacement(name):
        signature = inspect.signature(getattr(tf_mtl_privacy, name))

        def call(*positional, **named):
            calls.append((name, signature.bind(*positional, **named).arguments))
            return answers[name]

        return call

    for name in answers:
        monkeypatch.setattr(tf_mtl_privacy, name, replacement(name), raising=False)
    names = {}
    exec(code, names)
    assert [name for name, _ in calls] == list(answers)
    assert isinstance(calls[0][1]["config"], tf_mtl_privacy.Config)
    assert {str(given["run_dir"]) for _, given in calls} == {"runs/mine"}
    assert names["encoder"] == "the encoder"
    assert capsys.readouterr().out == "the worst the verdict\n"


def test_pitfalls_name_existing_tests():
    lines = (ROOT / "docs" / "dp-pitfalls.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("| ") and not line.startswith("| pitfall")]
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")]
    there = {name for text in sources for name in re.findall(r"^def (test_\w+)", text, re.M)}
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    assert len(rows) > 40 and all(named)
    assert [name for names in named for name in names if name not in there] == []


def test_diagram_has_alternative_text_and_dark_colours():
    path = ROOT / "docs" / "architecture.svg"
    root = ElementTree.parse(path).getroot()
    words = {child.tag.rpartition("}")[2]: child for child in root}
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == f"{words['title'].get('id')} {words['desc'].get('id')}"
    assert len(words["title"].text) > 20 and "discriminator" in words["desc"].text
    text = path.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in text and text.count("http") == 1, "its namespace alone"
    assert "(docs/architecture.svg)" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_citation_names_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == tf_mtl_privacy.__version__
    assert cited["license"] == "Apache-2.0" and cited["authors"] and cited["title"]
    assert {"cff-version", "message"} <= set(cited)


@pytest.fixture(scope="module")
def site(tmp_path_factory, session_python):
    folder = tmp_path_factory.mktemp("site")
    command = ("-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder)
    done = session_python(*command, cwd=ROOT, env={"NO_MKDOCS_2_WARNING": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_site_has_every_page_and_no_external_resource(site):
    pages = {path.relative_to(site).with_suffix(".md").as_posix() for path in site.rglob("*.html")}
    assert pages - {"404.md"} == {
        path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")
    }
    fetched = [
        f"{path.name}: {address}"
        for path in (*site.rglob("*.html"), *site.rglob("*.css"))
        for address in FETCHED.findall(path.read_text(encoding="utf-8"))
    ]
    assert fetched == []


def test_reference_pages_have_every_option_and_docstring(site):
    options = (site / "api" / "config.html").read_text(encoding="utf-8")
    names = [
        f"{kind.__module__}.{kind.__name__}.{field}"
        for kind in tf_mtl_privacy.config.section_types().values()
        for field in kind.__dataclass_fields__
    ]
    assert len(names) > 80 and [name for name in names if f'id="{name}"' not in options] == []
    assert "Height and width of the images, in pixels." in options and "&lt;= 512" in options
    text = "".join(path.read_text(encoding="utf-8") for path in (site / "api").glob("*.html"))
    for name in (
        "training.fit.fit",
        "privacy.optimizer.DPAdam",
        "privacy.batch_selection.PoissonBatches",
        "data.dataset.Dataset",
        "evaluation.probes.attack.attack",
        "serving.client.connecting.connect",
        "export.exporting.export_run",
        "serving.server.running.CheckServer",
    ):
        assert f'id="tf_mtl_privacy.{name}"' in text, name


def test_make_builds_the_site_as_the_test_does():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(r"^docs:.*\n\t.*-m mkdocs build --strict", makefile, re.MULTILINE)
