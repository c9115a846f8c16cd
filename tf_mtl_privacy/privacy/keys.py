"""Secret keys for sampling and noise: from the operating system, in memory only, never written.

Every process makes a new key, also when it continues a run, so no draw is ever used twice: the
accounting needs fresh randomness. A test key makes all draws repeatable and is not secret: training
with one gives no privacy (`is_test`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import NoReturn, SupportsIndex

import numpy as np

_BYTES = 32


class NotCopied:
    """Base class that refuses to copy or pickle an object that draws from a secret key.

    A copy would draw the same noise as the original, and one could be subtracted from the other; a
    pickle would write the key.
    """

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        raise TypeError(
            f"{type(self).__name__}: holds a secret key, which is never written and never copied; "
            "make a new one"
        )


class SecretKey(NotCopied):
    """256 secret bits from which independent streams are derived by name and number."""

    __slots__ = ("_material", "is_test")

    def __init__(self, material: bytes, *, is_test: bool) -> None:
        if len(material) != _BYTES:
            raise ValueError(f"Expected {_BYTES} bytes: {len(material)}")
        self._material = material
        self.is_test = is_test

    def derive(self, label: str) -> SecretKey:
        """Returns a key for one purpose ("sampling/adversarial"), unrelated to other labels.

        Two phases must never share a key, because they would draw the same batches.
        """
        return SecretKey(self._hash(b"derive", label.encode(), _BYTES), is_test=self.is_test)

    def words(self, count: int, *numbers: int) -> np.ndarray:
        """Returns `[count]` uint64, `count` <= 8: a pure function of key and `numbers` (>= 0)."""
        return np.frombuffer(self._hash(b"words", _packed(numbers), 8 * count), np.uint64).copy()

    def generator(self, *numbers: int) -> np.random.Generator:
        """Returns a generator that is a pure function of the key and `numbers` (each >= 0).

        BLAKE2b turns key and numbers into the 128-bit key of a Philox counter generator, so the
        streams of two steps are as unrelated as two secret keys.
        """
        return np.random.Generator(np.random.Philox(key=self.words(2, *numbers)))

    def _hash(self, purpose: bytes, message: bytes, size: int) -> bytes:
        return hashlib.blake2b(
            message, digest_size=size, key=self._material, person=purpose
        ).digest()

    def same_as(self, other: SecretKey) -> bool:
        """Returns True if both give the same draws."""
        return hmac.compare_digest(self._material, other._material)

    def __repr__(self) -> str:
        return f"SecretKey(is_test={self.is_test})"


def secret_key() -> SecretKey:
    """Returns a new key from the operating system's generator."""
    return SecretKey(os.urandom(_BYTES), is_test=False)


def key_for_tests(seed: int) -> SecretKey:
    """Returns a key that anyone can compute from `seed` (>= 0), for tests: no privacy."""
    material = hashlib.blake2b(_packed((seed,)), digest_size=_BYTES, person=b"test key").digest()
    return SecretKey(material, is_test=True)


def _packed(numbers: tuple[int, ...]) -> bytes:
    return b"".join(number.to_bytes(8, "little") for number in numbers)
