"""How much a noisy bottleneck can pass at most."""

from __future__ import annotations

import math


def capacity_bits(entries: int, deviation: float, draws: int = 1) -> float:
    """Bits about a picture, at most, in features of power 1 per entry under Gaussian noise.

    `entries / 2 * log2(1 + draws / deviation^2)`: the capacity of parallel Gaussian channels with
    a common power constraint (Cover and Thomas, "Elements of Information Theory", sections 9.1
    and 9.4; equal noise, so equal shares are best). It bounds the mutual information of features
    and picture, hence of features and private label, whatever the encoder is. It grows with every
    further draw for the same picture: their mean has less noise.

    The bound is of ideal noise. Float32 noise lies on a lattice, so that who has the encoder and a
    list of candidate pictures may tell by the last bits which of them it was.

    Args:
        entries: numbers in the features of one picture, >= 1.
        deviation: standard deviation of the noise, >= 0; without noise there is no bound (inf).
        draws: how often the features of the same picture are given away, >= 1.

    Raises:
        ValueError: a number out of range.
    """
    if entries < 1 or draws < 1 or not deviation >= 0.0:
        raise ValueError(
            f"Expected entries={entries} >= 1, draws={draws} >= 1, deviation={deviation} >= 0"
        )
    if deviation == 0.0:
        return math.inf
    return 0.5 * entries * math.log2(1.0 + draws / deviation**2)
