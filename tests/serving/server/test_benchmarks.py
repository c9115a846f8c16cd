"""benchmarks/serving.py and benchmarks/load_test.py: their checks, and short runs of both."""

import contextlib
import json
import math
import re
import runpy
import types
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.fakes.pictures import encoded, picture
from tests.serving.server.toy import expected, pixels, png


class Setting(NamedTuple):
    run: Any
    folder: Path
    images: np.ndarray
    files: list[bytes]


@pytest.fixture(scope="module")
def bench(repo_root):
    return runpy.run_path(str(repo_root / "benchmarks" / "serving.py"))


def row(target, batch, median):
    return {"target": target, "batch": batch, "median_ms": median}


def test_bar_compares_the_exported_model_at_batch_32(bench):
    rows = [row("keras_compiled", 32, 100.0), row("savedmodel_classify", 32, 109.0)]
    assert bench["bar"](rows) == pytest.approx(1.09)
    other = [row("keras_compiled", 1, 1.0), row("savedmodel_classify", 1, 9.0)]
    assert bench["bar"](other) is None
    assert bench["bar"](rows[:1]) is None


def test_way_missing_answers_raise(bench):
    requests = []

    def ask(rows):
        requests.append(rows)
        return {"label": np.zeros(rows.stop - rows.start - len(requests) // 3)}

    way = bench["way"]("some", ask, 24)
    batches = [way.read(number) for number in range(4)]
    # There are 64 pictures, so the third request starts again at the first one.
    assert batches == [slice(0, 24), slice(24, 48), slice(0, 24), slice(8, 32)]
    assert way.step(batches[0]) == {} and way.rows(batches[0]) == (24, 24)
    way.step(batches[1])
    with pytest.raises(ValueError, match="some: expected 24 answers"):
        way.step(batches[2])


def test_serving_benchmark_wrong_flags_are_refused(bench, capsys):
    for arguments, words in (["--targets=nothing"], "nothing"), (["--batches=65"], "1 to 64"):
        with pytest.raises(SystemExit) as stop:
            bench["main"](arguments)
        assert stop.value.code == 2 and words in capsys.readouterr().err


def test_serving_benchmark_short_run_measures_every_target(
    bench, covered, exported, tmp_path, capsys, monkeypatch
):
    images = np.stack([picture(seed, 32, 32) for seed in range(64)])
    files = [encoded(image, "PNG") for image in images]
    setting = Setting(covered, exported.folder, images, files)
    monkeypatch.setitem(
        bench["main"].__globals__, "served", lambda run_dir: contextlib.nullcontext(setting)
    )
    path = tmp_path / "rows.json"
    code = bench["main"](
        ["--rounds=2", "--steps=1", "--warm_up=1", "--batches=32", f"--json={path}"]
    )
    *rows, cold = json.loads(path.read_text())
    assert [row["target"] for row in rows] == list(bench["TARGETS"])
    assert {row["batch"] for row in rows} == {32}
    numbers = [value for row in (*rows, cold) for value in row.values() if value != row["target"]]
    assert all(math.isfinite(value) and value >= 0 for value in numbers)
    assert all(row["median_ms"] <= row["p99_ms"] for row in rows)
    assert cold["first_s"] > 0 and cold["load_s"] > 0
    printed = capsys.readouterr().out
    assert ("MISSED" in printed) == (code == 1) and f"{bench['bar'](rows):.3f}" in printed


@pytest.fixture
def peers(repo_root, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_root / "benchmarks" / "peers"))


def test_load_test_short_run_has_no_errors(toy_dir, repo_root, python):
    script = repo_root / "benchmarks" / "load_test.py"
    done = python(script, f"--export_dir={toy_dir}", "--clients=8", "--seconds=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"requests +\d+, ", done.stdout) and "errors         0\n" in done.stdout
    assert "wrong statuses 0\n" in done.stdout
    assert re.search(r"server memory +(\d+, ){6}\d+ MiB", done.stdout)


def test_server_targets_return_the_model_s_answers(server, toy_dir, peers, monkeypatch):
    import server_targets
    from check_server import Running

    # Starting a server is covered by the load test.
    here = Running(server.url, server.grpc_address, "toy", None)
    monkeypatch.setattr(server_targets, "running", lambda folder: contextlib.nullcontext(here))
    images = pixels(3)
    served = types.SimpleNamespace(
        folder=toy_dir / "1", images=images, files=[png(image) for image in images]
    )
    for target in (server_targets.grpc_classify, server_targets.rest_default):
        with target(served) as ask:
            found = ask(slice(1, 3))
        np.testing.assert_allclose(
            found["gender_probabilities"], expected(images[1:])["gender"], atol=1e-6
        )
