"""benchmarks/train_step.py: its arithmetic, its measured steps, and a short run."""

import json
import math
import runpy

import numpy as np
import pytest

SMALL = ["--compact_width=8", "--feature_channels=4", "--restorer_width=8", "--image_size=32"]


@pytest.fixture(scope="module")
def bench(repo_root):
    return runpy.run_path(str(repo_root / "benchmarks" / "train_step.py"))


@pytest.fixture(scope="module")
def interleave(bench):
    import interleave  # the benchmark has put its folder on the path

    return interleave


@pytest.fixture(scope="module")
def training_ways(bench):
    import training_ways

    return training_ways


def test_times_summary_matches_hand_computed_values(interleave):
    times = interleave.Times(
        read=[[0.1, 0.1], [0.3, 0.1]],
        step=[[1.0, 3.0], [2.0, 2.5]],
        cpu=[[1.5, 6.0], [2.5, 5.0]],
        rows=[[2, 2], [1, 0]],
        places=[[2, 3], [2, 1]],
    )
    expected = {
        "median_ms": 2250.0,
        "p99_ms": 3000.0,  # four steps: the slowest
        "least_block_ms": 2000.0,
        "median_row_us": 1.75e6,  # of 1/2, 3/2, 2/1 and, of the empty batch, 2.5/1 s
        "least_block_row_us": 1e6,
        "cpu_ms": 3750.0,
        "read_ms": 100.0,
        "rows": 1.25,
        "places": 2.0,
        "rows_per_second": 6 / (4.2 + 4.9),
        "best_rows_per_second": 4 / 4.2,
        "steps": 4,
    }
    assert times.summary() == pytest.approx(expected)


def test_times_empty_block_has_finite_summary(interleave):
    times = interleave.Times([[0.0]], [[1.0]], [[1.0]], [[0]], [[8]])
    assert all(math.isfinite(value) for value in times.summary().values())


def test_interleaved_alternates_ways_and_reads_before_each_step(interleave):
    log = []

    def way(name):
        def read(number):
            log.append((name, "read", number))
            return number

        def step(number):
            log.append((name, "step", number))
            return {"loss": 0.0}

        return interleave.Way(name, read, step, lambda number: (1, 1))

    found = interleave.interleaved([way("a"), way("b")], rounds=2, steps=2, warm_up=1)

    def block(name, *numbers):
        return [(name, part, number) for part in ("read", "step") for number in numbers]

    warm_up = block("a", 0) + block("b", 0)
    # The second round has the reverse order.
    rounds = block("a", 1, 2) + block("b", 1, 2) + block("b", 3, 4) + block("a", 3, 4)
    assert log == warm_up + rounds
    assert {name: part["steps"] for name, part in found.items()} == {"a": 4, "b": 4}


def joint_rows(part, dp, plain):
    return [
        {"part": part, "way": way, "median_ms": ms} for way, ms in (("dp", dp), ("plain", plain))
    ]


def test_bars_cover_the_compact_encoder_and_include_the_ledger(bench):
    rows = joint_rows("compact_dense", 104.0, 100.0) + joint_rows("compact_conv", 200.0, 100.0)
    assert [ratio for _, ratio in bench["bars"](rows)] == [pytest.approx(1.04)]
    ledger = [{"part": "ledger", "way": "dp", "median_ms": 7.0}]
    assert [ratio for _, ratio in bench["bars"](rows + ledger)] == [pytest.approx(1.11)]


@pytest.mark.slow
def test_adversarial_ways_use_poisson_and_fixed_batches(training_ways, tmp_path):
    dp, plain = training_ways.adversarial_ways([*SMALL, "--batch_size=16"], 160, tmp_path)
    batches = [dp.read(number) for number in range(30)]
    sizes = [dp.rows(batch)[1] for batch in batches]
    assert all(size % 8 == 0 for size in sizes) and len(set(sizes)) > 1
    # Binomial(160, 0.1) has mean 16 and standard deviation 3.8; the mean of 30 has 0.7.
    assert np.mean([dp.rows(batch)[0] for batch in batches]) == pytest.approx(16, abs=4)
    assert {plain.rows(plain.read(number)) for number in range(20)} == {(16, 16)}
    for way in (dp, plain):
        losses = way.step(way.read(0))
        assert {"discriminator_loss", "business_loss", "restoration_loss"} <= set(losses)


@pytest.mark.slow
def test_pretraining_ways_take_the_same_step(training_ways, tmp_path):
    flags = [*SMALL, "--batch_size=16"]
    ways, fill, phases = training_ways.pretraining_ways(flags, 96, tmp_path / "cache")
    assert fill() > 0 and list(tmp_path.rglob("features.f32"))
    kept, encoded = ways
    first, second = kept.read(1), encoded.read(1)
    np.testing.assert_array_equal(first[2], second.mask)
    np.testing.assert_array_equal(first[1], second.private)
    # The loss is from before the noisy update, on the same rows and initial weights.
    one = float(kept.step(first)["discriminator_loss"])
    assert one == pytest.approx(float(encoded.step(second)["discriminator_loss"]), rel=1e-4)
    assert abs(one - math.log(8)) < 1.5, "close to chance for eight classes"
    phases.close()
    assert not list(tmp_path.rglob("features.f32"))


@pytest.mark.slow
def test_train_step_benchmark_short_run_measures_every_part(bench, tmp_path, capsys):
    rows_file = tmp_path / "rows.json"
    small = ["--rows=200", "--batch=16", "--size=32", "--rounds=2", "--steps=2", "--warm_up=2"]
    small += ["--resnet_batch=2", "--resnet_rounds=1", "--resnet_steps=1", "--resnet_warm_up=1"]
    small += ["--ledger_epochs=1"]
    flags = " ".join(part for part in SMALL if "image_size" not in part)
    code = bench["main"]([*small, f"--flags={flags}", f"--json={rows_file}"])
    rows = json.loads(rows_file.read_text(encoding="utf-8"))
    by_part = {}
    for row in rows:
        by_part.setdefault(row["part"], []).append(row)
    assert set(by_part) == set(bench["PARTS"])
    numbers = [value for row in rows for value in row.values() if not isinstance(value, str)]
    assert all(math.isfinite(value) and value >= 0 for value in numbers)
    for part in ("compact_dense", "compact_conv", "resnet50"):
        dp, plain = by_part[part]
        assert (dp["way"], plain["way"]) == ("dp", "plain")
        for name in bench["COMPARED"]:
            assert dp[f"{name}_ratio"] == pytest.approx(dp[name] / plain[name])
    kept, encoded = by_part["pretraining"]
    assert kept["rows"] == encoded["rows"], "the same batches"
    assert kept["rows_per_second_ratio"] > 0 and kept["whole_phase_ratio"] > 0
    ((what, ratio),) = bench["bars"](rows)
    assert code == (1 if ratio > bench["BAR"] else 0)
    printed = capsys.readouterr().out
    assert f"{what}: {ratio:.3f}" in printed and ("MISSED" in printed) == bool(code)


def test_train_step_benchmark_unknown_part_is_refused(bench, capsys):
    with pytest.raises(SystemExit) as stop:
        bench["main"](["--parts=nothing"])
    assert stop.value.code == 2 and "nothing" in capsys.readouterr().err
