"""Shows what noise cut at 5.647 standard deviations does to an epsilon, by its own accounting.

`python benchmarks/cut_noise.py` prints, for each published configuration, the epsilon that was
stated, that of ideal noise, and that of the noise as it was (float32 uniforms of 23 bits in Box and
Muller's formula) with the delta that the stated epsilon has in truth in brackets. All of it is this
file's own convolution of privacy losses: no accounting library and nothing of the package's own is
used for it. Then it attacks both generators: by outputs beyond the reach of the earlier one, and by
the lattice that its radii lie on.

The pair of distributions: with sampling probability q and mu = 1/z, a row moves two coordinates
that share a radius from N(0, I) to N((mu, 0), I). Radii end at r, so the outputs without the row
fill a disc of radius r about 0, and those with it another one about (mu, 0). What lies in the
second disc alone tells for certain that the row was there. Whoever looks at one weight only sees
the discs' shadows, and less: that figure is printed beside it.
"""

from __future__ import annotations

import argparse
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

Array = NDArray[np.float64]
REACH = math.sqrt(2 * 23 * math.log(2))
DELTA = 1e-5
# What photographs_dp_all.json states of a person with at most so many images.
PERSON_STATED, PERSON_IMAGES = 24.509, 8


class Case(NamedTuple):
    """A published claim: `steps` updates with noise z and sampling probability q."""

    name: str
    stated: float
    z: float
    q: float
    steps: int


CASES = (
    Case("one update, z 0.5, whole batch", 9.997, 0.5, 1.0, 1),
    Case("z 1, q 0.0427, 432 updates", math.nan, 1.0, 0.0427, 432),
    Case("synthetic_dp_all.json", 1.9991, 2.0372950443535975, 0.0512, 320),
    Case("photographs_dp_all.json", 1.9984, 6.849883559885697, 128 / 388, 104),
    Case("synthetic_seed0/1/2.json, removal_off", 0.4983, 2.2077834425836635, 128 / 24_000, 3008),
    Case("demo_cut_noise.json", 0.4996, 1.2669, 0.0064, 471),
    Case("model_table.json, dp_scope_all", 0.4997, 1 / 0.090658, 2048 / 8000, 36),
    Case("model_table.json, others (z found)", 0.4996, 3.2320, 128 / 8000, 756),
    Case("ablations.json, game (z found)", 0.4999, 3.5465, 128 / 4000, 224),
    Case("reader.json, reader_game (z found)", 0.4992, 6.8365, 128 / 4000, 896),
    Case("photographs.json", 10.443, 1.0, 32 / 388, 325),
    Case("photographs_erased.json, seed1_rank52", 13.573, 1.0, 32 / 388, 520),
    Case("photographs_erased_seed1_rank48", math.nan, 1.0, 32 / 388, 910),
)


class Losses(NamedTuple):
    """Privacy losses of one update: values, their masses, and the mass of an infinite loss."""

    values: Array
    masses: Array
    infinite: float


def losses(
    z: float, q: float, reach: float, removed: bool, pair: bool = True, points: int = 400_000
) -> Losses:
    """Losses where the row is removed (the outputs have it) or added (they do not).

    With `pair` both values of a radius are seen, else the one that the row moves.
    """
    mu = 1 / z
    # Ideal noise has no edge; what lies beyond 12 has a mass of 1e-33.
    edge = min(reach, 12.0)
    step = (2 * edge + mu) / points
    x = -edge + step * (np.arange(points) + 0.5)
    half = np.sqrt(np.maximum(0.0, edge**2 - x**2))
    moved = np.sqrt(np.maximum(0.0, edge**2 - (x - mu) ** 2))
    both = np.minimum(half, moved) if pair else np.where(moved > 0, half, 0.0)
    without = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * step
    with_row = np.exp(-((x - mu) ** 2) / 2) / math.sqrt(2 * math.pi) * step
    inside = without * (2 * ndtr(both) - 1)
    alone = without * 2 * (ndtr(half) - ndtr(both))
    seen_with = with_row * (2 * ndtr(moved) - 1)
    shared = with_row * (2 * ndtr(both) - 1) if pair else np.where(half > 0, seen_with, 0.0)
    beyond = float((seen_with - shared).sum())
    # All of them are shares of the disc's mass.
    total = float((inside + alone).sum())
    known = (inside > 0) & (shared > 0)
    ratio = np.divide(shared, inside, out=np.exp(mu * x - mu**2 / 2), where=known)
    loss = np.log1p(q * (ratio - 1)) if q < 1 else np.log(ratio)
    never = math.log1p(-q) if q < 1 else -math.inf
    if removed:
        values, masses = [loss], [inside * (1 - q + q * ratio)]
        lost, far = q * beyond, (1 - q) * float(alone.sum())
    else:
        values, masses = [-loss], [inside]
        lost, far = (float(alone.sum()), 0.0) if q == 1 else (0.0, float(alone.sum()))
    if far:
        values.append(np.array([never if removed else -never]))
        masses.append(np.array([far]))
    if reach > 12.0:
        lost = 0.0
    return Losses(np.concatenate(values), np.concatenate(masses) / total, lost / total)


def person_losses(
    z: float, q: float, images: int, reach: float, removed: bool, points: int = 400_000
) -> Losses:
    """Losses of one update of a person with that many images, where one weight is seen.

    k of the images are in the batch with probability C(m, k) q^k (1-q)^(m-k), and move it by k / z.
    """
    edge = min(reach, 13.0)
    step = (2 * edge + images / z) / points
    x = -edge + step * (np.arange(points) + 0.5)

    def masses(centre: float) -> Array:
        half = np.sqrt(np.maximum(0.0, edge**2 - (x - centre) ** 2))
        return np.asarray(np.exp(-((x - centre) ** 2) / 2) * (2 * ndtr(half) - 1))

    without, with_person = masses(0.0), np.zeros(points)
    for k in range(images + 1):
        chance = math.comb(images, k) * q**k * (1 - q) ** (images - k)
        with_person += chance * masses(k / z)
    above, below = without / without.sum(), with_person / with_person.sum()
    if removed:
        above, below = below, above
    both = (above > 0) & (below > 0)
    lost = float(above[below <= 0].sum()) if reach <= 13.0 else 0.0
    return Losses(np.log(above[both] / below[both]), above[both], lost)


def composed(one: Losses, steps: int, interval: float) -> Losses:
    """The losses of `steps` independent updates, on a grid of losses, by FFT."""
    keep = one.masses > 1e-30
    values, masses = one.values[keep], one.masses[keep]
    if steps == 1:
        return Losses(values, masses, one.infinite)
    low = math.floor(values.min() / interval)
    place = values / interval - low
    lower = np.floor(place).astype(int)
    # Mass is shared between neighbours, which keeps the mean.
    pmf = np.bincount(lower, masses * (1 - place + lower), lower.max() + 2)
    pmf += np.bincount(lower + 1, masses * (place - lower), lower.max() + 2)
    grid = (np.arange(len(pmf)) + low) * interval
    mean = float((grid * pmf).sum() / pmf.sum())
    spread = math.sqrt(steps * float(((grid - mean) ** 2 * pmf).sum())) + float(grid.max())
    length = 2 ** math.ceil(math.log2(max(len(pmf), 24 * spread / interval)))
    # The composed losses are about steps * mean; the transform is turned so that they do not wrap.
    shift = round(mean / interval) - low
    whole = np.fft.irfft(_turned(np.fft.rfft(pmf, length), shift) ** steps, length)
    offsets = np.arange(length)
    offsets[length // 2 :] -= length
    total = (offsets + steps * (low + shift)) * interval
    infinite = -math.expm1(steps * math.log1p(-one.infinite))
    return Losses(total, np.maximum(whole, 0.0), infinite)


def _turned(transform: NDArray[np.complex128], shift: int) -> NDArray[np.complex128]:
    length = 2 * (len(transform) - 1)
    phase = 2j * math.pi * ((np.arange(len(transform)) * shift) % length) / length
    return np.asarray(transform * np.exp(phase))


def delta_at(found: Losses, epsilon: float) -> float:
    """The hockey-stick divergence at `epsilon`."""
    above = found.values > epsilon
    return found.infinite + float(
        (found.masses[above] * -np.expm1(epsilon - found.values[above])).sum()
    )


def epsilon_at(both: list[Losses], delta: float) -> float:
    """The smallest epsilon at `delta` for both directions; infinite where there is none."""
    if max(found.infinite for found in both) >= delta:
        return math.inf
    excess = [lambda e, f=found: delta_at(f, e) - delta for found in both]
    return max(float(brentq(f, 0.0, 200.0, xtol=1e-6)) if f(0.0) > 0 else 0.0 for f in excess)


def account(case: Case, reach: float, pair: bool = True) -> list[Losses]:
    """Composed losses of both directions."""
    interval = 0.02 * case.q / case.z
    return [
        composed(losses(case.z, case.q, reach, removed, pair), case.steps, interval)
        for removed in (True, False)
    ]


def table() -> None:
    print(f"delta {DELTA:g}; noise cut at {REACH:.3f} standard deviations")
    print(f"{'':<37}{'stated':>8}{'ideal':>8} | cut: {'one weight':>10} (its delta){'pair':>9}")
    for case in CASES:
        ideal = epsilon_at(account(case, math.inf), DELTA)
        stated = ideal if math.isnan(case.stated) else case.stated
        one, pair = account(case, REACH, pair=False), account(case, REACH)
        print(
            f"{case.name:<37}{case.stated:>8.4f}{ideal:>8.4f} |"
            + " ".join(
                f"{epsilon_at(cut, DELTA):>9.4f} ({max(delta_at(f, stated) for f in cut):.2g})"
                for cut in (one, pair)
            ),
            flush=True,
        )
    person()


def person() -> None:
    """Prints the epsilon of a person with 8 images of photographs_dp_all.json."""
    case = next(case for case in CASES if case.name == "photographs_dp_all.json")
    both = {
        reach: [
            composed(person_losses(case.z, case.q, PERSON_IMAGES, reach, removed), case.steps, 2e-3)
            for removed in (True, False)
        ]
        for reach in (math.inf, REACH)
    }
    true = max(delta_at(found, PERSON_STATED) for found in both[REACH])
    print(
        f"{case.name + ', a person':<37}{PERSON_STATED:>8.4f}"
        f"{epsilon_at(both[math.inf], DELTA):>8.4f} | "
        f"{epsilon_at(both[REACH], DELTA):>9.4f} ({true:.2g})"
    )


def earlier_noise(size: int, seed: int) -> Array:
    """`[2, size]` pairs as they were drawn: float32, 23-bit uniforms."""
    import tensorflow as tf

    uniform = tf.random.stateless_uniform([2, size], [seed, 1])
    radius = tf.sqrt(-2.0 * tf.math.log(1.0 - uniform[0]))
    angle = uniform[1] * (2.0 * math.pi)
    return np.stack([radius * tf.cos(angle), radius * tf.sin(angle)])


def noised(sums: NDArray[np.float32], earlier: bool, seed: int) -> NDArray[np.float32]:
    """`[2, size]` float32 sums with noise of standard deviation 1, as released."""
    if earlier:
        return sums + earlier_noise(sums.shape[1], seed).astype(np.float32)
    import tensorflow as tf

    from tf_mtl_privacy.privacy.noise import SecretNoise

    return np.asarray(
        SecretNoise(seed).add([tf.constant(sums)], [tf.TensorShape(sums.shape)], 1.0, 1.0)[0]
    ).reshape(sums.shape)


def off_lattice(pairs: Array) -> Array:
    """How far exp(-r^2/2) 2^23 is from a whole number, `[size]` in [0, 1/2]; 1/4 by chance."""
    place = np.exp(-(pairs**2).sum(0) / 2) * 2.0**23
    return np.asarray(np.abs(place - np.round(place)))


def attack(updates: int, size: int) -> None:
    """Tells a row of norm 1, spread over `size` weights, from none by the lattice alone."""
    rng = np.random.default_rng(0)
    row = np.zeros((2, size // 2), np.float32)
    row[:] = rng.choice([-1.0, 1.0], row.shape) / math.sqrt(size)
    others = rng.normal(0.0, 0.01, row.shape).astype(np.float32)
    for name, earlier in (("earlier noise", True), ("noise now", False)):
        right = 0
        for update in range(updates):
            there = bool(update % 2)
            seen = noised(others + row if there else others, earlier, update).astype(np.float64)
            tried = [seen - (others + row if guess else others) for guess in (False, True)]
            # Far out the lattice is wide enough to be seen in float32.
            far = (seen**2).sum(0) > 6
            off = [float(off_lattice(pair)[far].mean()) for pair in tried]
            right += (off[1] < off[0]) == there
        print(f"{name}: {right} of {updates} single updates told right by the lattice, z 1")


def beyond(draws: int) -> None:
    """Counts outputs beyond the earlier reach, with a row that moves one weight by two."""
    for name, earlier in (("earlier noise", True), ("noise now", False)):
        counts = [0, 0]
        for seed in range(draws // 400_000):
            for there in (0, 1):
                sums = np.zeros((2, 200_000), np.float32)
                sums[0] = 2.0 * there
                found = noised(sums, earlier, 2 * seed + there)
                counts[there] += int((found[0] > REACH).sum())
        print(
            f"{name}: beyond {REACH:.3f} without the row {counts[0]} times, with it {counts[1]} "
            f"times in {draws // 2:,} updates each (z 0.5); ideal {draws / 2 * ndtr(-REACH):.2g} "
            f"and {draws / 2 * ndtr(2 - REACH):.0f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=20_000_000, help="for outputs beyond the cut")
    parser.add_argument("--updates", type=int, default=200, help="of the attack on the lattice")
    parser.add_argument("--weights", type=int, default=10_000, help="that the row is spread over")
    options = parser.parse_args()
    table()
    beyond(options.draws)
    attack(options.updates, options.weights)


if __name__ == "__main__":
    main()
