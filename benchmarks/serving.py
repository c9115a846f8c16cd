"""Serving benchmark: latency, images/s and cold start, compared with the Keras networks.

`python benchmarks/serving.py [--run_dir=RUN] [--targets=..] [--batches=1,8,32] [--json=PATH] ..`
exports a run (by default an untrained one of demo.cfg, which takes as long), sends the same
pictures to every target in turn, and prints each target's median and 99th percentile latency and
images/s. It exits with 1 if `classify` of the exported model in this process, at batch 32, takes
more than 1.1 times as long as the Keras networks in one tf.function. Cold start is measured in a
new process that imports TensorFlow, loads the model and answers twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peers"), str(HERE.parent)]

from interleave import Way, interleaved  # noqa: E402
from serving_targets import PICTURES, TARGETS, Ask, Served, served  # noqa: E402

BAR, BAR_BATCH = 1.10, 32
COMPARED = ("median_ms", "cpu_ms")
BARE, HELD = "keras_compiled", "savedmodel_classify"
COLD_START = """
import sys, time
begun = time.perf_counter()
import numpy as np
import tensorflow as tf
imported = time.perf_counter()
call = tf.saved_model.load(sys.argv[1]).signatures["classify"]
loaded = time.perf_counter()
size = int(sys.argv[2])
for _ in range(2):
    at = time.perf_counter()
    call(images=tf.zeros((1, size, size, 3), tf.uint8))["gender_label"].numpy()
    print(time.perf_counter() - at)
print(imported - begun, loaded - imported)
"""
Row = dict[str, Any]


def way(name: str, ask: Ask, batch: int) -> Way:
    """Requests `batch` pictures at a time, different ones each time."""

    def read(number: int) -> slice:
        first = number * batch % PICTURES
        return slice(first, first + batch) if first + batch <= PICTURES else slice(0, batch)

    def step(rows: slice) -> dict[str, Any]:
        answer = ask(rows)
        counts = {len(values) for values in answer.values()}
        if counts != {batch}:
            raise ValueError(f"{name}: expected {batch} answers, got {counts}")
        return {}

    return Way(name, read, step, lambda rows: (batch, batch))


def measure(setting: Served, options: argparse.Namespace) -> list[Row]:
    """Measures every batch size and target; returns one row for each."""
    rows: list[Row] = []
    with contextlib.ExitStack() as stack:
        asks = {name: stack.enter_context(TARGETS[name](setting)) for name in options.targets}
        for batch in options.batches:
            ways = [way(name, ask, batch) for name, ask in asks.items()]
            results = interleaved(
                ways, rounds=options.rounds, steps=options.steps, warm_up=options.warm_up
            )
            for name, values in results.items():
                rows.append({"target": name, "batch": batch, **values})
                show(rows[-1], results.get(BARE))
    return rows


def show(row: Row, bare: dict[str, float] | None) -> None:
    """Prints one row."""
    ratios = [row[name] / bare[name] for name in COMPARED] if bare else []
    beside = ", {:.2f}x median and {:.2f}x processor time of {}".format(*ratios, BARE)
    print(
        f"batch {row['batch']:>3} {row['target']:<20} {row['median_ms']:>8.2f} ms median "
        f"{row['p99_ms']:>8.2f} ms p99 {row['cpu_ms']:>8.2f} ms processor "
        f"{row['rows_per_second']:>6,.0f} images/s{beside if ratios else ''}",
        flush=True,
    )


def cold_start(setting: Served) -> Row:
    """Measures a new process: importing TensorFlow, loading, the first and the second answer."""
    command = [sys.executable, "-c", COLD_START, str(setting.folder), str(setting.images.shape[1])]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300)
    first, second, imported, loaded = map(float, done.stdout.split())
    row = {"import_s": imported, "load_s": loaded, "first_s": first, "second_s": second}
    print(
        f"cold start: {imported:.2f} s to import TensorFlow, {loaded:.2f} s to load, {first:.3f} s "
        f"for the first answer, {second:.3f} s for the second"
    )
    return {"target": "cold_start", "batch": 1, **row}


def bar(rows: Sequence[Row]) -> float | None:
    """Returns the ratio that must not exceed `BAR`; None if it was not measured."""
    medians = {row["target"]: row["median_ms"] for row in rows if row["batch"] == BAR_BATCH}
    return medians[HELD] / medians[BARE] if {HELD, BARE} <= set(medians) else None


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run_dir", default="", help="a finished run; empty for an untrained one")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--targets", type=lambda text: text.split(","), default=list(TARGETS))
    parser.add_argument(
        "--batches", type=lambda text: [int(part) for part in text.split(",")], default=[1, 8, 32]
    )
    parser.add_argument("--rounds", type=int, default=100, help="blocks for each target")
    parser.add_argument("--steps", type=int, default=1, help="requests in a block")
    parser.add_argument("--warm_up", type=int, default=5, help="requests before the measurement")
    options = parser.parse_args(arguments)
    for name in options.targets:
        if name not in TARGETS:
            parser.error(f"--targets: {name}: expected some of {','.join(TARGETS)}")
    if not all(0 < batch <= PICTURES for batch in options.batches):
        parser.error(f"--batches: expected numbers from 1 to {PICTURES}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and returns the exit code."""
    options = parsed(arguments)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with served(options.run_dir) as setting:
        rows = measure(setting, options)
        rows.append(cold_start(setting))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(f"load average {os.getloadavg()[0]:.1f}")
    ratio = bar(rows)
    if ratio is None:
        return 0
    verdict = "met" if ratio <= BAR else "MISSED"
    print(f"{HELD} over {BARE} at batch {BAR_BATCH}, median: {ratio:.3f}, at most {BAR}: {verdict}")
    return 0 if ratio <= BAR else 1


if __name__ == "__main__":
    sys.exit(main())
