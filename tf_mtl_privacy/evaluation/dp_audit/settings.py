"""How much an audit of the private updates does."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Setting:
    """One amount of effort.

    Attributes:
        canaries: inserted in one run, a square number.
        canaries_instantiated: the same for clipping backends that hold every example's gradient.
        updates: most updates that are run; the first ones, if there are more.
        least_runs: repetitions of the single update, with the canary and as many without, even
            where fewer would notice half the noise.
        runs: most repetitions.
    """

    canaries: int
    canaries_instantiated: int
    updates: int
    least_runs: int
    runs: int


SETTINGS = {
    "fast": Setting(
        canaries=200**2, canaries_instantiated=100**2, updates=2_000, least_runs=500, runs=4_000
    ),
    "thorough": Setting(
        canaries=320**2,
        canaries_instantiated=100**2,
        updates=20_000,
        least_runs=10_000,
        runs=20_000,
    ),
}
