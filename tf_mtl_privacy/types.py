"""Records that several packages use."""

from __future__ import annotations

from typing import Any, NamedTuple


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
