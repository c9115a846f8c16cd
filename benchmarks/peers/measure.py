"""Time and memory of a step, measured with the standard library for every framework alike."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

WARM_UP = 3
MIN_STEPS = 3
MODELS = {
    "512-256-8": (512, 256, 8),
    "2048-512-100": (2048, 512, 100),
    "conv-16x16x32": None,
}
CONV_INPUT, CONV_CHANNELS, CONV_CLASSES, CONV_GROUPS = (16, 16, 32), 64, 8, 8
CONV_STRIDES = (1, 2, 2)


def _status(field: str) -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith(field))
    return int(line.split()[1]) / 1024


def measure(step: Callable[[], object], seconds: float) -> dict[str, float]:
    """Returns a step's minimum time in ms and the rise of peak memory in MB, warm-up included."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # resets the peak
    before = _status("VmRSS")
    for _ in range(WARM_UP):
        step()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < MIN_STEPS or time.perf_counter() < end:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return {"ms": 1000 * min(times), "peak_mb": _status("VmHWM") - before}


def _multiplications(model: str) -> list[int]:
    """Multiplications of each layer for one example."""
    sizes = MODELS[model]
    if sizes is not None:
        return [a * b for a, b in itertools.pairwise(sizes)]
    side, channels, layers = CONV_INPUT[0], CONV_INPUT[2], []
    for stride in CONV_STRIDES:
        side //= stride
        layers.append(side * side * 9 * channels * CONV_CHANNELS)
        channels = CONV_CHANNELS
    return [*layers, side * side * channels * CONV_CLASSES]


def instantiated_mb(model: str, batch: int) -> float:
    """Estimates the memory of backends that hold every example's gradient, in three copies."""
    sizes = MODELS[model]
    weights = sum(_multiplications(model)) if sizes is not None else 100_000
    return 3 * 4 * batch * weights / 2**20


def available_mb() -> float:
    with open("/proc/meminfo", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("MemAvailable"))
    return int(line.split()[1]) / 1024


def useful_flops(model: str, batch: int) -> float:
    """Counts floating-point operations of the forward pass, weight and layer gradients."""
    layers = _multiplications(model)
    return 2.0 * batch * (3 * sum(layers) - layers[0])
