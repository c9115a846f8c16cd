"""The page in a real browser: a photo is dropped or chosen, and what it says is shown."""

import base64
import io
import types

import numpy as np
import pytest
from PIL import Image

from tests.browser import PHONE, WIDE, missing_pictures, sideways, violations, visit
from tests.serving.server.toy import CARD, CLASSES, SIZE, expected, pixels, png
from tf_mtl_privacy.export.signatures import pixels_ready
from tf_mtl_privacy.serving.server.demo_page import framed, reduced
from tf_mtl_privacy.serving.server.limits import Limits
from tf_mtl_privacy.serving.server.running import CheckServer

_DROP = """([content, type]) => {
  const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "photo.png", { type }));
  const options = { dataTransfer: transfer, bubbles: true, cancelable: true };
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", options));
}"""


def drop(page, content):
    page.evaluate(_DROP, [base64.b64encode(content).decode(), "image/png"])


def shown(page):
    page.wait_for_function("() => !document.getElementById('result').hidden")
    return page.inner_text("#result")


@pytest.mark.parametrize("size", [WIDE, PHONE])
def test_a_dropped_photo_is_read_and_shown(browser, server, size):
    image = pixels(1)
    with visit(browser, f"{server.url}/", size) as found:
        page = found.page
        page.wait_for_function(
            "() => document.getElementById('summary').textContent !== 'Loading…'"
        )
        assert CARD["summary"] in page.inner_text("body")
        assert violations(page) == [] and sideways(page) == 0
        drop(page, png(image[0]))
        text = shown(page)
        for task, values in expected(image).items():
            label = CLASSES[task][values[0].argmax()]
            assert f"{task}: {label}" in text
            for name, value in zip(CLASSES[task], values[0], strict=True):
                assert name in text and f"{100 * value:.1f}\u00a0%" in text
            assert f"{task} {label}" in page.inner_text("[aria-live=polite]")
        assert page.locator("figure img").count() == 3 and missing_pictures(page) == []
        assert all(page.locator("figure img").evaluate_all("all => all.map((i) => i.alt)"))
        assert violations(page) == [] and sideways(page) == 0
        assert found.errors == []
        assert all(address.startswith(server.url) for address in found.requests)


def test_what_is_shown_are_the_model_s_pictures(http):
    image = pixels(1)[0]
    answer = http.post("/page/picture", content=png(image)).json()
    seen, restored, marked = [decoded(item["source"]) for item in answer["pictures"]]
    assert (seen == image).all() and (restored == image).all()
    # Grey where the map is lowest against its maximum, more yellow where green is strongest.
    assert marked.shape == image.shape and not (marked == image).all()
    strongest = np.unravel_index(image[..., 1].argmax(), image.shape[:2])
    red, _, blue = marked[strongest].astype(int)
    assert red > blue + 80


def decoded(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


NOTE_WHAT_IS_CLICKED = """() => document.addEventListener("click", event => {
    event.preventDefault();
    document.body.dataset.clicked = event.target.id;
}, {once: true})"""


def test_the_keyboard_is_enough(browser, server, tmp_path):
    (tmp_path / "photo.png").write_bytes(png(pixels(1)[0]))
    with visit(browser, f"{server.url}/") as found:
        page = found.page
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.id") == "file"
        # The dialog itself is the browser's and the desktop's; headless builds differ in it.
        page.evaluate(NOTE_WHAT_IS_CLICKED)
        page.keyboard.press("Space")
        page.wait_for_selector("body[data-clicked=file]")
        page.set_input_files("#file", tmp_path / "photo.png")
        assert "gender" in shown(page)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.locator("#not-protected").is_visible()


def test_what_is_no_photo_is_said_and_the_next_one_works(browser, server):
    with visit(browser, f"{server.url}/", PHONE) as found:
        page = found.page
        drop(page, b"hello")
        page.wait_for_function("() => document.querySelector('[role=alert]').textContent")
        assert "not a JPEG" in page.inner_text("[role=alert]")
        assert page.locator("#result").is_hidden() and violations(page) == []
        drop(page, png(pixels(1)[0]))
        assert "gender" in shown(page) and page.inner_text("[role=alert]") == ""


def test_a_server_that_has_gone_is_said(browser, toy_dir):
    running = CheckServer(toy_dir, "toy", limits=Limits(), poll_seconds=3600)
    with visit(browser, f"{running.url}/") as found:
        running.stop()
        drop(found.page, png(pixels(1)[0]))
        found.page.wait_for_function("() => document.querySelector('[role=alert]').textContent")
        assert "did not answer" in found.page.inner_text("[role=alert]")


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty file"), (png(pixels(1)[0])[:80], "truncated")]
)
def test_bad_photos_have_a_reason(http, content, words):
    answer = http.post("/page/picture", content=content)
    assert answer.status_code == 400 and words in answer.json()["error"]


LARGE = np.full((900, 1000, 3), 77, np.uint8)


def test_a_large_photo_goes_to_the_model_in_the_model_s_size(http, server, monkeypatch):
    batcher, sizes = server.service.batcher, {}
    submit = batcher.submit

    def watched(model, signature, inputs, rows):
        sizes[signature] = sum(value.nbytes for value in inputs.values())
        return submit(model, signature, inputs, rows)

    monkeypatch.setattr(batcher, "submit", watched)
    answer = http.post("/page/picture", content=png(LARGE)).json()
    assert (decoded(answer["pictures"][1]["source"]) == 77).all()
    assert sizes["restore"] == sizes["sensitive_regions"] == SIZE * SIZE * 3


def test_the_pixels_of_a_photo_count_as_memory_while_they_are_there(http, server, all_given_back):
    budget = server.service.budget
    assert all_given_back()
    with budget.share() as others:
        others.take(budget.total - LARGE.nbytes)
        answer = http.post("/page/picture", content=png(LARGE))
        assert answer.status_code == 429 and "fill the memory" in answer.json()["error"]
    assert http.post("/page/picture", content=png(LARGE)).status_code == 200
    assert all_given_back()


@pytest.mark.parametrize("size", [8, 16, 33, 50, 64, 112, 128])
@pytest.mark.parametrize("crop", ["inner", "center", "none"])
def test_what_is_sent_is_prepared_to_what_is_shown(size, crop):
    labels = {"image_size": size, "crop": crop}
    model = types.SimpleNamespace(extra=lambda name: labels)
    photo = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    seen = reduced(model, png(photo))
    prepare = pixels_ready(size, crop)
    assert (prepare(framed(model, seen)).numpy()[0] == seen).all()
    assert (prepare(photo[np.newaxis]).numpy()[0] == seen).all()


def test_nothing_of_a_photo_is_stored(http):
    answer = http.post("/page/picture", content=png(pixels(1)[0]))
    assert answer.headers["cache-control"] == "no-store"
    assert http.get("/page/picture").status_code == 405
