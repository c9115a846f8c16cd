"""What DP costs in training: a whole adversarial step with and without it, and pre-training.

`python benchmarks/train_step.py [--json=PATH] [--parts=..] [--rounds=N] [--steps=N] ..` measures,
in one process and in turns,

- the joint step of synthetic.cfg (one encoder pass, D's update, then E, B and R) with Poisson
  batches and DP-SGD for the discriminator, against shuffled epochs and plain Adam: with that
  configuration's dense discriminator, with a convolutional one, and with a ResNet-50;
- the ledger's part of a private step;
- D's private pre-training on features that are kept on disk, against running the encoder again in
  each epoch (both with the reading of their inputs).

It prints ratios and the bar, and ends with 1 where the bar is missed. Inputs of a joint step are
read before it, as training does in the background; what reading takes stands beside it.
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
# Only the setting of synthetic.cfg itself is held to the bar.
WITH_BAR = ("compact_dense",)
COMPARED = ("median_ms", "least_block_ms", "median_row_us", "least_block_row_us", "cpu_ms")
Row = dict[str, Any]


def joint(part: str, options: argparse.Namespace, folder: Path) -> list[Row]:
    """The joint step of one part, with DP and without: two rows, the first with the ratios."""
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
    found = interleaved(ways, rounds=rounds, steps=steps, warm_up=warm_up)
    dp, plain = found["dp"], found["plain"]
    ratios = {f"{name}_ratio": dp[name] / plain[name] for name in COMPARED}
    return [{"part": part, "way": "dp", **dp, **ratios}, {"part": part, "way": "plain", **plain}]


def pretraining(options: argparse.Namespace, folder: Path) -> list[Row]:
    """Examples/s of D's pre-training on kept features and through the encoder, with the ratio."""
    flags = [f"--batch_size={options.batch}", f"--image_size={options.size}", *options.flags]
    ways, fill, phases = pretraining_ways(flags, options.rows, folder)
    seconds = fill()
    try:
        found = interleaved(
            ways, rounds=options.rounds, steps=options.steps, warm_up=options.warm_up
        )
    finally:
        phases.close()
    kept, encoded = found[ways[0].name], found[ways[1].name]
    ratio = kept["rows_per_second"] / encoded["rows_per_second"]
    best = kept["best_rows_per_second"] / encoded["best_rows_per_second"]
    # In a phase of so many epochs the encoder's one pass, by which the cache is filled, counts too.
    each = options.rows / kept["rows_per_second"] * options.epochs + seconds
    whole = options.rows / encoded["rows_per_second"] * options.epochs / each
    kept |= {"fill_seconds": seconds, "rows_per_second_ratio": ratio}
    kept |= {"best_rows_per_second_ratio": best, "whole_phase_ratio": whole}
    rows = ((ways[0].name, kept), (ways[1].name, encoded))
    return [{"part": "pretraining", "way": name, **values} for name, values in rows]


def measure(part: str, options: argparse.Namespace, folder: Path) -> list[Row]:
    """The rows of one part."""
    if part == "ledger":
        inside = folder / part
        inside.mkdir()
        found = ledger_ms(options.rows, inside, options.ledger_epochs)
        return [{"part": part, "way": "dp", "median_ms": found}]
    if part == "pretraining":
        return pretraining(options, folder / part)
    return joint(part, options, folder)


def show(rows: Sequence[Row]) -> None:
    """Prints one part."""
    part, first = f"{rows[0]['part']:<14}", rows[0]
    if first["part"] == "ledger":
        print(f"{part} {first['median_ms']:.3f} ms by private step, mean", flush=True)
        return
    for row in rows:
        print(
            f"{part} {row['way']:<18} {row['median_ms']:>8.2f} ms median "
            f"{row['least_block_ms']:>8.2f} ms least block {row['median_row_us']:>8.0f} us a row "
            f"{row['rows']:>6.1f} rows in {row['places']:.1f} places; reading "
            f"{row['read_ms']:.2f} ms"
        )
    if first["part"] != "pretraining":
        ratios = [first[f"{name}_ratio"] for name in COMPARED]
        print(
            f"{part} with DP over without: {ratios[0]:.3f}x median, {ratios[1]:.3f}x least block; "
            f"by row {ratios[2]:.3f}x median, {ratios[3]:.3f}x least block; processor time "
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
        f"{part} kept over encoder each epoch: {first['rows_per_second_ratio']:.1f}x, best block "
        f"{first['best_rows_per_second_ratio']:.1f}x; with the {first['fill_seconds']:.1f} s that "
        f"the cache takes, over a whole phase {first['whole_phase_ratio']:.1f}x",
        flush=True,
    )


def bars(rows: Sequence[Row]) -> list[tuple[str, float]]:
    """(what, measured ratio) for what is held to the bar; the ledger's time counts as DP's."""
    ledger = sum(row["median_ms"] for row in rows if row["part"] == "ledger")
    found = []
    for dp, plain in itertools.pairwise(rows):
        if dp["part"] in WITH_BAR and (dp["way"], plain["way"]) == ("dp", "plain"):
            ratio = (dp["median_ms"] + ledger) / plain["median_ms"]
            found.append((f"{dp['part']}: joint step with DP over without, median", ratio))
    return found


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="where to write the rows")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS))
    for name, default, text in (
        ("rows", 24_000, "training rows"),
        ("batch", 128, "rows in a batch, on average"),
        ("size", 64, "height and width of the pictures"),
        ("rounds", 10, "blocks of each way"),
        ("steps", 20, "steps in a block"),
        ("warm_up", 25, "steps before that, to meet every usual size of a Poisson batch"),
        ("resnet_batch", 64, "rows in a batch of the ResNet-50"),
        ("resnet_size", 64, "height and width of its pictures"),
        ("resnet_rounds", 5, "its blocks"),
        ("resnet_steps", 4, "steps in one"),
        ("resnet_warm_up", 8, "steps before them"),
        ("ledger_epochs", 20, "epochs of each private phase that the ledger counts"),
        ("epochs", 20, "epochs of the pre-training over which filling the cache is spread"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=text)
    parser.add_argument(
        "--flags", type=lambda text: text.split(), default=[], help="other flags of training"
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
            found = measure(part, options, Path(folder))
            show(found)
            rows += found
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
