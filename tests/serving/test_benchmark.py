"""benchmarks/serving.py: its bar, its checks, and a run of it in small."""

import contextlib
import json
import math
import runpy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.fakes.pictures import encoded, picture


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


def test_the_bar_is_on_the_exported_model_at_batch_32(bench):
    rows = [row("keras_compiled", 32, 100.0), row("savedmodel_classify", 32, 109.0)]
    assert bench["bar"](rows) == pytest.approx(1.09)
    other = [row("keras_compiled", 1, 1.0), row("savedmodel_classify", 1, 9.0)]
    assert bench["bar"](other) is None
    assert bench["bar"](rows[:1]) is None


def test_a_target_that_does_not_answer_for_every_picture_is_noticed(bench):
    asked = []

    def ask(rows):
        asked.append(rows)
        return {"label": np.zeros(rows.stop - rows.start - len(asked) // 3)}

    way = bench["way"]("some", ask, 24)
    batches = [way.read(number) for number in range(4)]
    # 64 pictures: the third request would run over their end.
    assert batches == [slice(0, 24), slice(24, 48), slice(0, 24), slice(8, 32)]
    assert way.step(batches[0]) == {} and way.rows(batches[0]) == (24, 24)
    way.step(batches[1])
    with pytest.raises(ValueError, match="some: expected 24 answers"):
        way.step(batches[2])


def test_wrong_requests(bench, capsys):
    for arguments, said in (["--targets=nothing"], "nothing"), (["--batches=65"], "1 to 64"):
        with pytest.raises(SystemExit) as stop:
            bench["main"](arguments)
        assert stop.value.code == 2 and said in capsys.readouterr().err


def test_a_run_in_small(bench, covered, exported, tmp_path, capsys, monkeypatch):
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
