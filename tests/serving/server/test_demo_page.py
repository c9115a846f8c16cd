"""The demo page in a real browser: predictions for dropped and chosen photos, and errors."""

import base64
import io
import types

import numpy as np
import pytest
from PIL import Image

from tests.browser import PHONE, WIDE, missing_pictures, sideways, violations, visit
from tests.serving.server.toy import CARD, CLASSES, SIZE, expected, pixels, png
from tf_mtl_privacy.export.signatures import prepare_images
from tf_mtl_privacy.serving.server.demo_page import model_input, prepare_photo
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
def test_page_dropped_photo_shows_predictions_and_pictures(browser, server, size):
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


def test_page_pictures_are_the_model_s_outputs(http):
    image = pixels(1)[0]
    answer = http.post("/page/picture", content=png(image)).json()
    cropped, restored, marked = [decoded(item["source"]) for item in answer["pictures"]]
    assert (cropped == image).all() and (restored == image).all()
    # The map is the green channel: grey where it is lowest, yellow where it is highest.
    assert marked.shape == image.shape and not (marked == image).all()
    strongest = np.unravel_index(image[..., 1].argmax(), image.shape[:2])
    red, _, blue = marked[strongest].astype(int)
    assert red > blue + 80


def decoded(address):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


RECORD_CLICK = """() => document.addEventListener("click", event => {
    event.preventDefault();
    document.body.dataset.clicked = event.target.id;
}, {once: true})"""


def test_page_keyboard_reaches_every_control(browser, server, tmp_path):
    (tmp_path / "photo.png").write_bytes(png(pixels(1)[0]))
    with visit(browser, f"{server.url}/") as found:
        page = found.page
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.id") == "file"
        # Only the click is checked: headless builds differ in the file dialog.
        page.evaluate(RECORD_CLICK)
        page.keyboard.press("Space")
        page.wait_for_selector("body[data-clicked=file]")
        page.set_input_files("#file", tmp_path / "photo.png")
        assert "gender" in shown(page)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert page.locator("#not-protected").is_visible()


def test_page_bad_file_shows_error_and_next_photo_works(browser, server):
    with visit(browser, f"{server.url}/", PHONE) as found:
        page = found.page
        drop(page, b"hello")
        page.wait_for_function("() => document.querySelector('[role=alert]').textContent")
        assert "not a JPEG" in page.inner_text("[role=alert]")
        assert page.locator("#result").is_hidden() and violations(page) == []
        drop(page, png(pixels(1)[0]))
        assert "gender" in shown(page) and page.inner_text("[role=alert]") == ""


def test_page_stopped_server_shows_error(browser, toy_dir):
    running = CheckServer(toy_dir, "toy", limits=Limits(), poll_seconds=3600)
    with visit(browser, f"{running.url}/") as found:
        running.stop()
        drop(found.page, png(pixels(1)[0]))
        found.page.wait_for_function("() => document.querySelector('[role=alert]').textContent")
        assert "did not answer" in found.page.inner_text("[role=alert]")


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "empty file"), (png(pixels(1)[0])[:80], "truncated")]
)
def test_page_route_bad_photo_returns_reason(http, content, words):
    answer = http.post("/page/picture", content=content)
    assert answer.status_code == 400 and words in answer.json()["error"]


LARGE = np.full((900, 1000, 3), 77, np.uint8)


def test_page_route_large_photo_is_queued_in_the_model_s_size(http, server, monkeypatch):
    batcher, sizes = server.service.batcher, {}
    submit = batcher.submit

    def record_size(model, signature, inputs, rows):
        sizes[signature] = sum(value.nbytes for value in inputs.values())
        return submit(model, signature, inputs, rows)

    monkeypatch.setattr(batcher, "submit", record_size)
    answer = http.post("/page/picture", content=png(LARGE)).json()
    assert (decoded(answer["pictures"][1]["source"]) == 77).all()
    assert sizes["restore"] == sizes["sensitive_regions"] == SIZE * SIZE * 3


def test_page_route_decoded_pixels_count_as_memory(http, server, all_memory_released):
    budget = server.service.budget
    assert all_memory_released()
    with budget.share() as others:
        others.take(budget.total - LARGE.nbytes)
        answer = http.post("/page/picture", content=png(LARGE))
        assert answer.status_code == 429 and "use all memory" in answer.json()["error"]
    assert http.post("/page/picture", content=png(LARGE)).status_code == 200
    assert all_memory_released()


@pytest.mark.parametrize("size", [8, 16, 33, 50, 64, 112, 128])
@pytest.mark.parametrize("crop", ["inner", "center", "none"])
def test_model_input_is_prepared_to_the_shown_photo(size, crop):
    labels = {"image_size": size, "crop": crop}
    model = types.SimpleNamespace(extra=lambda name: labels)
    photo = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    prepared = prepare_photo(model, png(photo))
    prepare = prepare_images(size, crop)
    assert (prepare(model_input(model, prepared)).numpy()[0] == prepared).all()
    assert (prepare(photo[np.newaxis]).numpy()[0] == prepared).all()


def test_page_route_answer_is_not_cached(http):
    answer = http.post("/page/picture", content=png(pixels(1)[0]))
    assert answer.headers["cache-control"] == "no-store"
    assert http.get("/page/picture").status_code == 405
