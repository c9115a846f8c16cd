"""The report in a real browser, on a desk, on a phone, in the dark and on paper."""

import itertools
import re

import pytest

from tests.browser import PHONE, WIDE, missing_pictures, sideways, violations, visit
from tf_mtl_privacy.reporting.build import write_report


@pytest.fixture(scope="module")
def pages(whole, bare, tmp_path_factory):
    found = {}
    for name, report in (("whole", whole), ("bare", bare)):
        page = tmp_path_factory.mktemp(name) / "report.html"
        write_report(report, page)
        found[name] = page.as_uri()
    return found


@pytest.mark.parametrize(
    ("name", "size", "scheme"),
    [("whole", WIDE, "light"), ("whole", PHONE, "dark"), ("bare", PHONE, "light")],
)
def test_page_is_valid_at_every_width(browser, pages, name, size, scheme):
    with visit(browser, pages[name], size, color_scheme=scheme) as found:
        page = found.page
        assert found.errors == [] and found.requests == []
        assert missing_pictures(page) == [] and sideways(page) <= 0
        assert violations(page) == []
        # Without attackers: what the check in training read, and epsilon over steps.
        assert page.locator("img").count() == (7 if name == "whole" else 2)
        assert page.evaluate("() => getComputedStyle(document.body).color") == (
            "rgb(231, 234, 237)" if scheme == "dark" else "rgb(29, 34, 39)"
        )


def test_wide_tables_scroll_by_keyboard_inside_their_box(browser, pages):
    with visit(browser, pages["whole"], PHONE) as found:
        boxes = found.page.evaluate(
            "() => [...document.querySelectorAll('.scroll')].map(b => "
            "[b.tabIndex, b.scrollWidth > b.clientWidth, b.getBoundingClientRect().right])"
        )
        assert len(boxes) > 8 and any(scrolls for _, scrolls, _ in boxes)
        assert all(index == 0 and right <= PHONE[0] for index, _, right in boxes)
        # The text itself is not shrunk.
        size = found.page.evaluate("() => parseFloat(getComputedStyle(document.body).fontSize)")
        assert size >= 16


def test_headings_go_down_one_at_a_time_and_the_skip_link_comes_first(browser, pages):
    with visit(browser, pages["whole"]) as found:
        levels = found.page.evaluate(
            "() => [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])"
        )
        assert levels[0] == 1 and levels.count(1) == 1
        assert all(later <= earlier + 1 for earlier, later in itertools.pairwise(levels))
        found.page.keyboard.press("Tab")
        assert found.page.evaluate("() => document.activeElement.hash") == "#content"
        targets = found.page.evaluate("() => [...document.links].map(a => a.hash.slice(1))")
        assert all(
            found.page.evaluate("id => !!document.getElementById(id)", name) for name in targets
        )


def test_print_style_omits_screen_elements(browser, pages):
    with visit(browser, pages["whole"]) as found:
        pdf = found.page.pdf(prefer_css_page_size=True)
        assert pdf.startswith(b"%PDF") and 4 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 20
        found.page.emulate_media(media="print", color_scheme="dark")
        found.page.set_viewport_size({"width": 688, "height": 1000})
        assert sideways(found.page) <= 0
        assert not found.page.locator("nav").is_visible()
        background = found.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert background == "rgb(255, 255, 255)"
