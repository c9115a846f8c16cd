"""How good the restored images are, beside the simplest guess: the mean image."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def restoration(
    psnr: Array | None, ssim: Array | None, mean_image_psnr: Array | None
) -> dict[str, Any]:
    """Means of per-image figures.

    Args:
        psnr: `[N]` dB of restored images on [0, 1], or None where nothing restores.
        ssim: `[N]` in [-1, 1], or None.
        mean_image_psnr: `[N]` dB of the training rows' mean image, or None where it is not known.

    Returns:
        `psnr_db`, `ssim`, `mean_image_psnr_db` (None where there is nothing to average; then
        `reason` or `mean_image_reason` says why) and `n`.
    """
    n = 0 if psnr is None else int(psnr.size)
    result: dict[str, Any] = {
        "psnr_db": _mean(psnr),
        "ssim": _mean(ssim),
        "mean_image_psnr_db": _mean(mean_image_psnr),
        "n": n,
    }
    if psnr is None:
        result["reason"] = "the model has no restorer"
    elif not n:
        result["reason"] = "there are no rows"
    elif mean_image_psnr is None:
        result["mean_image_reason"] = "the data set has no training rows to take the mean of"
    return result


def _mean(values: Array | None) -> float | None:
    if values is None or not values.size:
        return None
    return float(np.mean(values, dtype=np.float64))
