"""Time and peak memory of one DP-SGD step and its peers, each backend in a fresh process.

`python benchmarks/dp_step.py [--json=PATH] [--models=..] [--batches=..] [--backends=..]
[--seconds=S] [--rounds=N]` prints a table, the share of the machine's matmul limit, and the bars;
it exits with 1 if a bar is missed. Opacus is measured if `make bench-peers` has made `.venv-peers`.
Times are the shortest over all steps of all rounds, because other processes may use the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "peers"))

from measure import MODELS, available_mb, instantiated_mb, useful_flops  # noqa: E402

PEERS = HERE.parent / ".venv-peers" / "bin" / "python"
OURS = ("ghost", "vectorized", "per_example")
BACKENDS = (
    "nonprivate",
    *OURS,
    "tfp_stock",
    "tfp_vectorized",
    "opacus_ghost",
    "opacus_hooks",
)
INSTANTIATING = ("vectorized", "per_example", "tfp_stock", "tfp_vectorized", "opacus_hooks")
BARS_AT = "2048-512-100"
TIMEOUT = 400


def run(model: str, batch: int, backend: str, seconds: float) -> dict[str, Any]:
    """Measures in one process -> its row, or the reason for a missing one."""
    need = instantiated_mb(model, batch)
    if backend in INSTANTIATING and need > available_mb() / 2:
        return {"missing": f"would take about {need:.0f} MB of {available_mb():.0f}"}
    if backend.startswith("opacus"):
        if not PEERS.exists():
            return {"missing": "make bench-peers"}
        command = [PEERS, HERE / "peers" / "opacus_step.py", model, batch]
        backend = backend.removeprefix("opacus_")
    else:
        command = [sys.executable, HERE / "peers" / "tensorflow_step.py", model, batch]
    environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
    try:
        done = subprocess.run(
            [str(part) for part in (*command, backend, seconds)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"missing": f"more than {TIMEOUT} s"}
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure_all(options: argparse.Namespace) -> list[dict[str, Any]]:
    rows = []
    for model in options.models:
        for batch in options.batches:
            best: dict[str, dict[str, Any]] = {}
            for _ in range(options.rounds):
                for backend in options.backends:
                    if "missing" not in best.get(backend, {}):
                        found = run(model, batch, backend, options.seconds)
                        best[backend] = merge(best.get(backend), found)
            for backend, found in best.items():
                rows.append({"model": model, "batch": batch, "backend": backend, **found})
                show(rows[-1], rows, options.gflops)
    return rows


def merge(one: dict[str, Any] | None, other: dict[str, Any]) -> dict[str, Any]:
    if one is None or "missing" in other:
        return other
    return {name: min(one[name], other[name]) for name in one}


def value(rows: list[dict[str, Any]], batch: int, backend: str, what: str, model: str) -> Any:
    for row in rows:
        if (row["model"], row["batch"], row["backend"]) == (model, batch, backend):
            return row.get(what)
    return None


def show(row: dict[str, Any], rows: list[dict[str, Any]], gflops: float) -> None:
    head = f"{row['model']:<14} {row['batch']:>5} {row['backend']:<15}"
    if "missing" in row:
        print(f"{head} not measured: {row['missing'][:100]}", flush=True)
        return
    plain = value(rows, row["batch"], "nonprivate", "ms", row["model"])
    ratio = f"{row['ms'] / plain:6.2f}x" if plain else ""
    share = useful_flops(row["model"], row["batch"]) / row["ms"] / 1e6 / gflops
    print(
        f"{head} {row['ms']:>9.2f} ms {ratio:>8} {row['peak_mb']:>8.0f} MB {100 * share:>5.0f} %",
        flush=True,
    )


def bars(rows: list[dict[str, Any]]) -> list[tuple[str, float, float]]:
    """Returns (name, measured, allowed maximum) for every bar with measured rows."""

    def ratio(
        what: str, top: str, bottom: str, batch: int = 128, model: str = BARS_AT
    ) -> float | None:
        above = value(rows, batch, top, what, model)
        below = value(rows, batch, bottom, what, model)
        return above / below if above is not None and below else None

    wanted = [
        ("ghost over stock DPKerasAdamOptimizer, time", ratio("ms", "ghost", "tfp_stock"), 1 / 15),
        ("ghost over non-private, time", ratio("ms", "ghost", "nonprivate"), 2.0),
    ]
    for model in MODELS:
        for batch in (128, 1024):
            name = f"at {model}, batch {batch}"
            opacus = ratio("ms", "ghost", "opacus_ghost", batch, model)
            wanted.append((f"ghost over Opacus ghost, time {name}", opacus, 1.0))
        memory = ratio("peak_mb", "ghost", "nonprivate", 1024, model)
        wanted.append((f"ghost over non-private, memory {name}", memory, 1.5))
    return [(what, found, most) for what, found, most in wanted if found is not None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="where to write the rows")
    for name, kind, default in (
        ("models", str, list(MODELS)),
        ("batches", int, [128, 1024]),
        ("backends", str, list(BACKENDS)),
    ):
        parser.add_argument(
            f"--{name}",
            type=lambda text, kind=kind: [kind(part) for part in text.split(",")],
            default=default,
            help="comma-separated",
        )
    parser.add_argument("--seconds", type=float, default=2.0, help="per process, warm-up apart")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    options.gflops = run(BARS_AT, 1, "matmul", options.seconds)["gflops"]
    print(f"matmul limit {options.gflops:.0f} GFLOP/s; %: share of it that the step's work reaches")
    rows = measure_all(options)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    missed = 0
    for what, found, most in bars(rows):
        missed += found > most
        print(f"{what}: {found:.3f}, at most {most:.3f}: {'met' if found <= most else 'MISSED'}")
    print(f"load average {os.getloadavg()[0]:.1f}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
