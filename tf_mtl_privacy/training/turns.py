"""Which updates the discriminators of a run make, by name, and in which order rows come. No
TensorFlow.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from tf_mtl_privacy.config import GameConfig


class Turn(NamedTuple):
    """One discriminator's update in each step of a phase, on batches of its own.

    Attributes:
        name: in the ledger and in checkpoints: `discriminator` or `adversarial_discriminator`, then
            `_2` and so on for a further discriminator, `_step_2` and so on for a further update.
        phase: the phase of training that makes it.
        member: which discriminator, from 0; 0 is the one that is saved.
        number: which of its updates in a step, from 0.
    """

    name: str
    phase: str
    member: int
    number: int


def turns(game: GameConfig) -> list[Turn]:
    """All of them, pre-training first.

    The joint phase's first one is on the encoder's own batch, each other one on another batch.
    """
    members = range(game.discriminators)
    before = [Turn(_name("discriminator", m, 0), "discriminator", m, 0) for m in members]
    joint = [
        Turn(_name("adversarial_discriminator", member, number), "adversarial", member, number)
        for number in range(game.discriminator_steps)
        for member in members
    ]
    return before + joint


def order_seed(seed: int, name: str) -> int:
    """A seed in [0, 2^63) for one order of rows: the same for the same run seed and name."""
    digest = hashlib.blake2b(f"{seed}/order/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _name(kind: str, member: int, number: int) -> str:
    name = f"{kind}_{member + 1}" if member else kind
    return f"{name}_step_{number + 1}" if number else name
