"""docs/serving.md: its examples run, and its limits are the defaults."""

import dataclasses
import re

import pytest

from tests.serving.server.toy import pixels, png
from tf_mtl_privacy.cli.serve import ServeOptions
from tf_mtl_privacy.serving.server.limits import Limits


@pytest.fixture(scope="module")
def page(repo_root):
    return (repo_root / "docs" / "serving.md").read_text(encoding="utf-8")


def test_serving_page_examples_run(page, server, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.jpg").write_bytes(png(pixels(1)[0]))
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    for code in blocks:
        code = code.replace("127.0.0.1:8500", server.grpc_address).replace('"faces"', '"toy"')
        names = {"pixels": pixels(3)}
        exec(code.replace("http://127.0.0.1:8501", server.url), names)
    assert "0." in capsys.readouterr().out
    assert names["part"]["gender_probabilities"].shape == (3, 2)


def test_serving_page_limits_are_the_defaults(page):
    limits, options = Limits(), ServeOptions(export_dir="x")
    defaults = {field.name: field.default for field in dataclasses.fields(ServeOptions)}
    assert options.max_request_bytes == limits.max_request_bytes
    for row, words in (
        ("size of a request", f"{options.max_request_bytes // 2**20} MiB (`--max_request_bytes`)"),
        ("all requests that are read", f"{limits.max_bytes_in_flight // 2**20} MiB"),
        ("pictures in a request", f"{defaults['max_request_rows']} (`--max_request_rows`)"),
        ("pixels of all picture files", f"{limits.max_pixels // 10**6} million"),
        ("requests that wait for", f"{defaults['max_queued_requests']} (`--max_queued_requests`)"),
        ("connections", f"{limits.max_connections:,}"),
        ("open calls of gRPC", f"{defaults['max_queued_requests']} (`--max_queued_requests`)"),
        ("time to send a request", f"{defaults['client_seconds']:g} s (`--client_seconds`)"),
        ("time to take an answer", f"{defaults['client_seconds']:g} s (`--client_seconds`)"),
        ("time that a request waits", f"{defaults['answer_seconds']:g} s (`--answer_seconds`)"),
    ):
        assert any(line.startswith(f"| {row}") and words in line for line in page.splitlines())
    assert f"(`--max_batch_size`) and {limits.max_batch_bytes // 2**20} MiB" in page


def test_pages_use_one_example_folder(repo_root):
    for name in ("README.md", "docs/serving.md", "docs/export.md"):
        text = (repo_root / name).read_text(encoding="utf-8")
        assert set(re.findall(r"--export_dir=(\S+?)[`\s]", text)) == {"exports/demo"}, name
