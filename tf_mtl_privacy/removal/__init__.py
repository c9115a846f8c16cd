"""Registry of removal methods, which take the private label out of the features.

A method is one subclass of `RemovalMethod`, with its layer, its fitting, the labels it reads and
its entries in results.json together. `register` adds one, also from outside the package; encoder,
training and results then take it up. Start with `base.py`; `noise.py` is the shortest method. A
method of this package also needs its options in `config.removal` (with the one that switches it on
in `switched_on`) and its entries in `evaluation.schema.Removal`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from tf_mtl_privacy.config import Config, RemovalConfig
from tf_mtl_privacy.removal.base import NOTHING, PUBLIC, TRAIN, Fitting, RemovalMethod
from tf_mtl_privacy.removal.erasure import ErasureMethod
from tf_mtl_privacy.removal.mask_training import MaskMethod
from tf_mtl_privacy.removal.noise import NoiseMethod

__all__ = [
    "NOTHING",
    "PUBLIC",
    "TRAIN",
    "Fitting",
    "RemovalMethod",
    "chosen",
    "deterministic",
    "disabled",
    "draws_apart",
    "draws_at_random",
    "methods",
    "record",
    "register",
    "registered",
    "release",
    "unregister",
]

_METHODS: dict[str, RemovalMethod] = {}


def register(method: RemovalMethod) -> None:
    """Adds a method; the encoder applies methods in the order in which they were added.

    Raises:
        ValueError: it has no name, or one that is taken.
    """
    if not method.name or method.name in _METHODS:
        raise ValueError(f"removal method {method.name!r}: expected a new name")
    _METHODS[method.name] = method


def unregister(name: str) -> None:
    """Removes the method `name`.

    Raises:
        KeyError: there is no such method.
    """
    del _METHODS[name]


def registered() -> tuple[RemovalMethod, ...]:
    """Returns all methods, on or off, in the order in which the encoder applies them."""
    return tuple(_METHODS.values())


def chosen(removal: RemovalConfig) -> tuple[RemovalMethod, ...]:
    """Returns the methods that these options select."""
    return tuple(method for method in registered() if method.is_on(removal))


def methods(config: Config) -> tuple[RemovalMethod, ...]:
    """Returns a run's active methods: none for a model without the adversarial game."""
    return chosen(config.removal) if config.train.is_adversarial else ()


def record(config: Config) -> dict[str, Any]:
    """Returns the entries of all methods in `removal` of results.json, active or not."""
    entries: dict[str, Any] = {}
    for method in registered():
        entries |= method.record(config.removal, on=method in methods(config))
    return entries


def release(encoder: keras.Model) -> None:
    """Sets an encoder to its released state: mask on, fresh noise in every call."""
    for method in registered():
        method.release(encoder)


def deterministic(encoder: keras.Model) -> keras.Model:
    """Returns an encoder without the random draws of its methods, with shared weights."""
    for method in registered():
        encoder = method.deterministic(encoder)
    return encoder


def draws_at_random(encoder: keras.Model) -> bool:
    """Returns True if two calls of a released encoder differ, because a method draws anew."""
    return deterministic(encoder) is not encoder


@contextlib.contextmanager
def disabled(encoder: keras.Model) -> Iterator[None]:
    """Temporarily switches off the methods that can be switched off."""
    with contextlib.ExitStack() as stack:
        for method in registered():
            stack.enter_context(method.disabled(encoder))
        yield


@contextlib.contextmanager
def draws_apart(encoder: keras.Model) -> Iterator[None]:
    """Keeps random draws in this context from changing later draws.

    For features that are computed once and cached: a run that resumes computes them again, and
    must find the same noise in them and in everything afterwards.
    """
    with contextlib.ExitStack() as stack:
        for method in registered():
            stack.enter_context(method.draws_apart(encoder))
        yield


for _method in (MaskMethod(), ErasureMethod(), NoiseMethod()):
    register(_method)
