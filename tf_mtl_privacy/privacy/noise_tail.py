"""Reach of the noise generator, and the probability mass that lies beyond it. No TensorFlow.

Box and Muller's radius is sqrt(-2 ln u). A u of b random bits is never below 2^-b, so the radius
never exceeds sqrt(2 b ln 2), where that of an ideal normal pair does with probability exactly 2^-b.
An output beyond the reach tells for certain which row was there, so this mass belongs to delta.
"""

from __future__ import annotations

import math

# Random bits in each radius. With 23 bits (float32 uniforms) the reach is 5.647 deviations.
RADIUS_BITS = 192
# Largest model that `UPDATE_TAIL` covers; `SecretNoise` refuses larger ones.
MAX_WEIGHTS = 2**33


def reach(bits: int = RADIUS_BITS) -> float:
    """Returns the largest radius, in standard deviations: sqrt(2 bits ln 2)."""
    return math.sqrt(2 * bits * math.log(2))


def tail_probability(weights: int, bits: int = RADIUS_BITS) -> float:
    """Returns the chance that any pair of an ideal draw lies beyond the reach (union bound).

    Args:
        weights: normal values in the draw, >= 0; two share a radius.
        bits: random bits in each radius, > 0.
    """
    return math.ldexp(-(-weights // 2), -bits)


# Per update, whatever the model: 2^-160.
UPDATE_TAIL = tail_probability(MAX_WEIGHTS)
