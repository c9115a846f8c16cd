"""Counter-based random numbers: each is a hash of (seed, stream, index, name).

A face therefore does not depend on the other faces of its batch, and a new named parameter changes
no existing one.
"""

import copy
import functools
import hashlib
from collections.abc import Callable

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def splitmix64(counter: np.ndarray) -> np.ndarray:
    """Returns the splitmix64 hash of each counter. Both are uint64, of any shape."""
    z = counter + _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@functools.lru_cache(maxsize=4096)
def _key(seed: int, stream: str, name: str) -> np.uint64:
    # Lengths keep ("a", "bc") and ("ab", "c") apart.
    text = f"{seed}/{len(stream)}/{stream}/{len(name)}/{name}"
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


def bits(seed: int, stream: str, indices: np.ndarray, name: str) -> np.ndarray:
    """Returns [N] uint64 random words for the parameter `name` of faces `indices` ([N] int64)."""
    return _keyed(splitmix64(indices.astype(np.uint64)), _key(seed, stream, name))


def _keyed(counters: np.ndarray, key: np.uint64) -> np.ndarray:
    return splitmix64(counters ^ key)


def below(words: np.ndarray, count: int) -> np.ndarray:
    """Maps [N] uint64 words to [N] int64 numbers, uniform in [0, count), count < 2**31."""
    return (((words >> np.uint64(32)) * np.uint64(count)) >> np.uint64(32)).astype(np.int64)


def unit(words: np.ndarray) -> np.ndarray:
    """Maps uint64 words to float32 numbers, uniform in [0, 1)."""
    return (words >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)


def _bell(words: np.ndarray) -> np.ndarray:
    """Maps uint64 words to float32 numbers about 0: bell shaped, std 1, within 3.5."""
    parts = [((words >> np.uint64(16 * k)) & np.uint64(0xFFFF)) for k in range(4)]
    total = (parts[0] + parts[1] + parts[2] + parts[3]).astype(np.float32)
    # The sum of four uniforms has mean 2 and variance 1/3.
    return (total * np.float32(2.0**-16) - np.float32(2.0)) * np.float32(1.7320508)


class Draws:
    """Named random numbers for n faces, shaped [n, 1, 1] to broadcast over pixels.

    `image` numbers change from picture to picture. `person` numbers belong to the person: if people
    are given they depend on (seed, person) only, so that the same people appear in all streams.
    """

    def __init__(self, seed: int, stream: str, indices: np.ndarray, people: np.ndarray | None):
        """`indices` and `people` are [n] int64; None means every face is a different person."""
        self._seed = seed
        image = "image:" + stream, splitmix64(indices.astype(np.uint64))
        if people is None:
            person = "stranger:" + stream, image[1]
        else:
            person = "people", splitmix64(people.astype(np.uint64))
        self._sources = {"image": image, "person": person}
        self._rows = slice(None)
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def part(self, rows: slice) -> "Draws":
        """Returns the numbers of some of the faces; they share cached hashes."""
        some = copy.copy(self)
        some._rows = rows
        return some

    def image(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Returns [n, 1, 1] float32, uniform in [low, high), one for each picture."""
        return self._uniform("image", name, low, high)

    def person(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Returns [n, 1, 1] float32, uniform in [low, high), one for each person."""
        return self._uniform("person", name, low, high)

    def person_bell(self, name: str, spread: float) -> np.ndarray:
        """Returns [n, 1, 1] float32 about 0: bell shaped, std `spread`, within 3.5 spreads."""
        return self._recall("person", name, _bell) * np.float32(spread)

    def _uniform(self, owner: str, name: str, low: float, high: float) -> np.ndarray:
        numbers = self._recall(owner, name, unit)
        return numbers * np.float32(high - low) + np.float32(low)

    def _recall(
        self, owner: str, name: str, kind: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        # Threads may draw the same name twice; they then store the same numbers.
        numbers = self._known.get((owner, name))
        if numbers is None:
            stream, counters = self._sources[owner]
            numbers = kind(_keyed(counters, _key(self._seed, stream, name)))[:, None, None]
            self._known[owner, name] = numbers
        return numbers[self._rows]
