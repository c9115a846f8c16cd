"""What took information out of the features of a run, as results.json has it."""

from __future__ import annotations

import math
from typing import Any

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.privacy.capacity import capacity_bits


def removal_summary(config: Config) -> dict[str, Any]:
    """`removal` of results.json: what was in force, and the bound that noise gives.

    Returns:
        `mask`, `feature_noise`, `erasure`, `erasure_labels` (None without erasure), `entries` (d,
        numbers in the features of a picture) and `capacity_bits`, the most that one draw of the
        features can say about its picture, in bits; None without noise, where nothing bounds it.
    """
    removal, model = config.removal_in_force, config.model
    cells = (config.data.image_size // model.feature_stride) ** 2
    # The pixel path adds three colours, and whether a pixel is covered.
    carried = (3 + removal.has_mask) * model.feature_stride**2 if model.pixel_path else 0
    entries = cells * (model.feature_channels + carried)
    bits = capacity_bits(entries, removal.feature_noise)
    return {
        "mask": removal.mask,
        "feature_noise": removal.feature_noise,
        "erasure": removal.erasure,
        "erasure_labels": removal.erasure_labels if removal.erasure != "none" else None,
        "entries": entries,
        "capacity_bits": bits if math.isfinite(bits) else None,
    }
