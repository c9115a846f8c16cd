"""Records and array types that all layers share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]


class Batch(NamedTuple):
    """One batch of rows as read from a store, or as tensors inside a step.

    Attributes:
        image: `[B, H, W, 3]` uint8, RGB.
        business: task name -> `[B]` int32 class number, -1 if unknown.
        private: `[B]` int32 class number, -1 if unknown.
        index: `[B]` int64, the row's number in its store.
        mask: `[B]` bool, False for padding. Padded rows do not contribute to losses or statistics.
    """

    image: Any
    business: dict[str, Any]
    private: Any
    index: Any
    mask: Any


class Outputs(NamedTuple):
    """Outputs of the networks for a batch.

    Attributes:
        features: `[B, h, w, c]` float32, the encoder's output.
        business: task name -> `[B, classes]` float32 logits.
        private: `[B, K]` float32 logits of the discriminator, or None without one.
        restored: `[B, H, W, 3]` float32 in [0, 1], or None without a restorer.
    """

    features: Any
    business: dict[str, Any]
    private: Any = None
    restored: Any = None


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        name: a key of `training.schedule.phase_epochs`.
        epochs: the most epochs it may take.
        steps_per_epoch: updates in one of them.
        inputs: (epoch, step), both counted from 0 -> the step's inputs; runs in a background
            thread.
        step: inputs -> mean losses, as scalars; the only place where weights change.
        validate: -> the figures that gates and schedule read.
        before_epoch: called with an epoch's number, from 0, before its first step, and again after
            a kill that lost that step: the same call has to do the same.
    """

    name: str
    epochs: int
    steps_per_epoch: int
    inputs: Callable[[int, int], Any]
    step: Callable[[Any], dict[str, Any]]
    validate: Callable[[], dict[str, float]]
    before_epoch: Callable[[int], None] = lambda epoch: None
