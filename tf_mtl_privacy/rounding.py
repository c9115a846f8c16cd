"""Upper bounds as text, rounded up: the printed figure must not be below the computed one."""

from __future__ import annotations

import math


def percent_up(rate: float) -> str:
    """Formats an upper bound of a rate in [0, 1] as `22.4 %`, rounded up."""
    # A rate of few digits, times 1000, may land just above its own figure.
    return f"{math.ceil(1000 * rate - 1e-9) / 10:.1f} %"


def epsilon_up(epsilon: float) -> str:
    """Formats an epsilon with four significant digits, rounded up; infinity as `inf`."""
    if math.isinf(epsilon):
        return "inf"
    if epsilon == 0:
        return "0"
    digits = max(0, 3 - math.floor(math.log10(epsilon)))
    scale = 10.0**digits
    return f"{math.ceil(epsilon * scale * (1 - 1e-12)) / scale:.{digits}f}"
