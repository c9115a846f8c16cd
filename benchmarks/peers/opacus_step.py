"""Measures an Opacus step, in a separate environment: `opacus_step.py MODEL BATCH MODE SECONDS`.

MODE is `hooks` or `ghost`. Prints one JSON row.
"""

from __future__ import annotations

import itertools
import json
import sys
import warnings

import measure
import torch
from opacus import PrivacyEngine
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def network(name: str) -> tuple[nn.Module, tuple[int, ...], int]:
    sizes = measure.MODELS[name]
    if sizes is not None:
        layers: list[nn.Module] = []
        for n, m in itertools.pairwise(sizes[:-1]):
            layers += [nn.Linear(n, m), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(*sizes[-2:])), sizes[:1], sizes[-1]
    side, _, channels = measure.CONV_INPUT
    layers, shape = [], (channels, side, side)
    for stride in measure.CONV_STRIDES:
        width = measure.CONV_CHANNELS
        layers += [
            nn.Conv2d(channels, width, 3, stride=stride, padding=1),
            nn.GroupNorm(measure.CONV_GROUPS, width),
            nn.ReLU(),
        ]
        channels, side = width, side // stride
    layers += [nn.Flatten(), nn.Linear(side * side * channels, measure.CONV_CLASSES)]
    return nn.Sequential(*layers), shape, measure.CONV_CLASSES


def main(name: str, batch: int, mode: str, seconds: float) -> None:
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model, shape, classes = network(name)
    x, y = torch.randn(batch, *shape), torch.randint(0, classes, (batch,))
    made = PrivacyEngine().make_private(
        module=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        criterion=nn.CrossEntropyLoss(),
        data_loader=DataLoader(TensorDataset(x, y), batch_size=batch),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        poisson_sampling=False,
        grad_sample_mode=mode,
    )
    # Ghost mode returns its own loss function, which runs backward twice.
    model, optimizer = made[0], made[1]
    criterion = made[2] if mode == "ghost" else nn.CrossEntropyLoss()

    def step() -> None:
        optimizer.zero_grad()
        criterion(model(x), y).backward()
        optimizer.step()

    # On a busy machine one thread can be faster than several; the faster count is used.
    rows = []
    for threads in {1, torch.get_num_threads()}:
        torch.set_num_threads(threads)
        rows.append(measure.measure(step, seconds))
    fastest = min(row["ms"] for row in rows)
    print(json.dumps({"ms": fastest, "peak_mb": max(row["peak_mb"] for row in rows)}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
