"""Pages in a real browser: Chromium, which `make browser` installs on Debian."""

import contextlib
import os
import shutil
from typing import Any, NamedTuple

import pytest

WIDE, PHONE = (1280, 900), (375, 812)
MISSING = "no chromium is installed; `make browser` installs it"


class Visit(NamedTuple):
    """An open page, with its errors and requests so far."""

    page: Any
    errors: list[str]
    requests: list[str]


@contextlib.contextmanager
def chromium():
    """Starts a browser. Without Chromium the test is skipped, or fails if CI=true."""
    path = shutil.which("chromium")
    if path is None:
        absent = pytest.fail if os.environ.get("CI", "").lower() == "true" else pytest.skip
        absent(MISSING)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-dev-shm-usage"]
        running = playwright.chromium.launch(executable_path=path, args=flags)
        yield running
        running.close()


@pytest.fixture(scope="module")
def browser():
    """`chromium` for the tests of one file, because its event loop occupies this thread."""
    with chromium() as running:
        yield running


@contextlib.contextmanager
def visit(browser, url, size=WIDE, **options):
    """Opens a page in a new context; `Visit.requests` omits the request of the page itself."""
    context = browser.new_context(
        viewport=dict(zip(("width", "height"), size, strict=True)), **options
    )
    page = context.new_page()
    found = Visit(page, [], [])
    page.on("console", lambda line: line.type == "error" and found.errors.append(line.text))
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on("requestfailed", lambda request: found.errors.append(f"failed: {request.url}"))
    page.on(
        "request",
        lambda asked: (
            None
            if asked.url == url or asked.url.startswith("data:")
            else found.requests.append(asked.url)
        ),
    )
    page.goto(url)
    page.wait_for_load_state("load")
    yield found
    context.close()


def missing_pictures(page):
    """Returns the first characters of the URLs of images that failed to load."""
    return page.evaluate(
        "() => [...document.images].filter(i => !i.complete || i.naturalWidth === 0)"
        ".map(i => i.src.slice(0, 80))"
    )


def sideways(page):
    """Returns the horizontal overflow of the page, in pixels."""
    return page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def violations(page):
    """Returns the accessibility violations that axe finds, one line each."""
    from axe_playwright_python.sync_playwright import Axe

    return Axe().run(page).generate_snapshot().splitlines()
