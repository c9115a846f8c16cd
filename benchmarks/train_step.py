"""Training time with DP: a whole adversarial step with and without DP, and pre-training.

`python benchmarks/train_step.py [--json=PATH] [--parts=..] [--rounds=N] [--steps=N] ..` measures,
in one process and in turn,

- the joint step of synthetic.cfg (one encoder pass, the discriminator's update, then encoder, heads
  and restorer): Poisson batches with DP-SGD for the discriminator, against shuffled epochs with
  Adam; with that configuration's dense discriminator, a convolutional one, and a ResNet-50 encoder;
- the privacy ledger's time in a private step;
- the discriminator's private pre-training on features cached on disk, against running the encoder
  again in each epoch (both include reading their inputs).

It prints ratios and exits with 1 if a target is missed. Inputs of a joint step are read before it,
as training does in the background; the reading time is printed separately.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "peers"), str(HERE.parent)]

from interleave import interleaved  # noqa: E402
from training_ways import adversarial_ways, ledger_ms, pretraining_ways  # noqa: E402

BAR = 1.10
CONV = ("--discriminator=conv", "--discriminator_units=64")
RESNET = ("--encoder=resnet50", "--encoder_weights=none", "--feature_stride=8")
PARTS = ("compact_dense", "compact_conv", "resnet50", "ledger", "pretraining")
# Parts with a target: only the configuration of synthetic.cfg itself.
WITH_BAR = ("compact_dense",)
COMPARED = ("median_ms", "least_block_ms", "median_row_us", "least_block_row_us", "cpu_ms")
Row = dict[str, Any]


def joint(part: str, options: argparse.Namespace, folder: Path) -> list[Row]:
    """Measures a joint step with and without DP; returns two rows, the first with the ratios."""
    flags = [f"--batch_size={options.batch}", f"--image_size={options.size}", *options.flags]
    rounds, steps, warm_up = options.rounds, options.steps, options.warm_up
    rows = options.rows
    if part == "compact_conv":
        flags += CONV
    if part == "resnet50":
        flags += [*RESNET, f"--batch_size={options.resnet_batch}"]
        flags += [f"--image_size={options.resnet_size}"]
        rounds, steps = options.resnet_rounds, options.resnet_steps
        warm_up = options.resnet_warm_up
        rows = min(rows, 50 * options.resnet_batch)
    ways = adversarial_ways(flags, rows, folder / part)
    results = interleaved(ways, rounds=rounds, steps=steps, warm_up=warm_up)
    dp, plain = results["dp"], results["plain"]
    ratios = {f"{name}_ratio": dp[name] / plain[name] for name in COMPARED}
    return [{"part": part, "way": "dp", **dp, **ratios}, {"part": part, "way": "plain", **plain}]


def pretraining(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Measures pre-training on cached features and through the encoder, with the ratio."""
    flags = [f"--batch_size={options.batch}", f"--image_size={options.size}", *options.flags]
    ways, fill, phases = pretraining_ways(flags, options.rows, folder)
    seconds = fill()
    try:
        results = interleaved(
            ways, rounds=options.rounds, steps=options.steps, warm_up=options.warm_up
        )
    finally:
        phases.close()
    cached, encoded = results[ways[0].name], results[ways[1].name]
    ratio = cached["rows_per_second"] / encoded["rows_per_second"]
    best = cached["best_rows_per_second"] / encoded["best_rows_per_second"]
    # A whole phase also includes the encoder's pass that fills the cache.
    each = options.rows / cached["rows_per_second"] * options.epochs + seconds
    whole = options.rows / encoded["rows_per_second"] * options.epochs / each
    cached |= {"fill_seconds": seconds, "rows_per_second_ratio": ratio}
    cached |= {"best_rows_per_second_ratio": best, "whole_phase_ratio": whole}
    rows = ((ways[0].name, cached), (ways[1].name, encoded))
    return [{"part": "pretraining", "way": name, **values} for name, values in rows]


def measure(part: str, options: argparse.Namespace, folder: Path) -> list[Row]:
    """Measures one part; returns its rows."""
    if part == "ledger":
        inside = folder / part
        inside.mkdir()
        results = ledger_ms(options.rows, inside, options.ledger_epochs)
        return [{"part": part, "way": "dp", "median_ms": results}]
    if part == "pretraining":
        return pretraining(options, folder / part)
    return joint(part, options, folder)


def show(rows: Sequence[Row]) -> None:
    """Prints one part."""
    part, first = f"{rows[0]['part']:<14}", rows[0]
    if first["part"] == "ledger":
        print(f"{part} {first['median_ms']:.3f} ms per private step, mean", flush=True)
        return
    for row in rows:
        print(
            f"{part} {row['way']:<18} {row['median_ms']:>8.2f} ms median "
            f"{row['least_block_ms']:>8.2f} ms best block {row['median_row_us']:>8.0f} us per row "
            f"{row['rows']:>6.1f} rows in {row['places']:.1f} places; reading "
            f"{row['read_ms']:.2f} ms"
        )
    if first["part"] != "pretraining":
        ratios = [first[f"{name}_ratio"] for name in COMPARED]
        print(
            f"{part} with DP over without: {ratios[0]:.3f}x median, {ratios[1]:.3f}x best block; "
            f"per row {ratios[2]:.3f}x median, {ratios[3]:.3f}x best block; processor time "
            f"{ratios[4]:.3f}x",
            flush=True,
        )
        return
    for row in rows:
        print(
            f"{part} {row['way']:<18} {row['rows_per_second']:>8,.0f} examples/s, "
            f"best block {row['best_rows_per_second']:,.0f}"
        )
    print(
        f"{part} cached features over encoder in each epoch: "
        f"{first['rows_per_second_ratio']:.1f}x, best block "
        f"{first['best_rows_per_second_ratio']:.1f}x; over a whole phase, with "
        f"{first['fill_seconds']:.1f} s to fill the cache, {first['whole_phase_ratio']:.1f}x",
        flush=True,
    )


def bars(rows: Sequence[Row]) -> list[tuple[str, float]]:
    """Returns (description, ratio) of parts with a target; the ledger's time counts as DP's."""
    ledger = sum(row["median_ms"] for row in rows if row["part"] == "ledger")
    results = []
    for dp, plain in itertools.pairwise(rows):
        if dp["part"] in WITH_BAR and (dp["way"], plain["way"]) == ("dp", "plain"):
            ratio = (dp["median_ms"] + ledger) / plain["median_ms"]
            results.append((f"{dp['part']}: joint step with DP over without, median", ratio))
    return results


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    for name, default, text in (
        ("rows", 24_000, "training rows"),
        ("batch", 128, "expected rows in a batch"),
        ("size", 64, "height and width of the pictures"),
        ("rounds", 10, "blocks of each variant"),
        ("steps", 20, "steps in a block"),
        ("warm_up", 25, "warm-up steps, enough to meet every common size of a Poisson batch"),
        ("resnet_batch", 64, "rows in a batch for the ResNet-50"),
        ("resnet_size", 64, "height and width of the ResNet-50's pictures"),
        ("resnet_rounds", 5, "blocks for the ResNet-50"),
        ("resnet_steps", 4, "steps in a block for the ResNet-50"),
        ("resnet_warm_up", 8, "warm-up steps for the ResNet-50"),
        ("ledger_epochs", 20, "epochs of each private phase for the ledger"),
        ("epochs", 20, "pre-training epochs over which the time to fill the cache is spread"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=text)
    parser.add_argument(
        "--flags", type=lambda text: text.split(), default=[], help="further training flags"
    )
    options = parser.parse_args(arguments)
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"--parts: {part}: expected some of {','.join(PARTS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints, and returns the exit code."""
    options = parsed(arguments)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            results = measure(part, options, Path(folder))
            show(results)
            rows += results
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    missed = 0
    for what, ratio in bars(rows):
        missed += ratio > BAR
        print(f"{what}: {ratio:.3f}, at most {BAR:.2f}: {'met' if ratio <= BAR else 'MISSED'}")
    print(f"load average {os.getloadavg()[0]:.1f}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
