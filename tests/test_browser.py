"""The browser checks detect planted faults, and a missing browser is reported."""

import shutil

import pytest

from tests.browser import (
    MISSING,
    PHONE,
    chromium,
    missing_pictures,
    sideways,
    violations,
    visit,
)

BAD = """<html><body><img src="data:image/png;base64,AAAA"><img src="nowhere.png">
<div style="width:900px">wide</div><script>console.error("oh"); undefined_name()</script>"""
GOOD = """<!doctype html><html lang="en"><head><title>Good</title></head><body><main>
<h1>Good</h1></main></body></html>"""


def test_visit_bad_page_reports_every_fault(browser, tmp_path):
    (tmp_path / "bad.html").write_text(BAD)
    with visit(browser, (tmp_path / "bad.html").as_uri(), PHONE) as found:
        assert len(missing_pictures(found.page)) == 2
        assert sideways(found.page) > 500
        assert [name.rpartition("/")[2] for name in found.requests] == ["nowhere.png"]
        assert any(line == "oh" for line in found.errors)
        assert any("undefined_name" in line for line in found.errors)
        assert {"image-alt", "html-has-lang"} <= {
            line.split()[0] for line in violations(found.page)
        }


def test_visit_good_page_reports_nothing(browser, tmp_path):
    (tmp_path / "good.html").write_text(GOOD)
    with visit(browser, (tmp_path / "good.html").as_uri(), PHONE) as found:
        assert violations(found.page) == [] and sideways(found.page) == 0
        assert found.errors == found.requests == missing_pictures(found.page) == []


@pytest.mark.parametrize(
    ("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_chromium_missing_skips_and_fails_in_ci(monkeypatch, ci, outcome):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="make browser"), chromium():
        pass
    assert "make browser" in MISSING
