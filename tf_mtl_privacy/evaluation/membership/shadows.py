"""Which rows each shadow model sees, and what is kept of those that are trained."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tf_mtl_privacy.data.fingerprints import published
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.files import private_dir, read_json, write_json
from tf_mtl_privacy.models.layers import layer_seed

Array = np.ndarray[Any, Any]
# (number of the shadow, [n] int64 places in the pool that it is trained on, folder to work in)
# -> [pool, T] scaled logits on the whole pool.
TrainShadow = Callable[[int, Array, Path], Array]
PLAN = "plan.json"


def seen_by(number: int, members: int, non_members: int, seed: int) -> Array:
    """`[members + non_members]` bool: which rows of the pool shadow `number` is trained on.

    Each shadow is trained on as many rows as the attacked model, `members`. All see the members
    beyond as many as there are non-members, which can thus not be attacked. Of the others each sees
    half: they come in pairs, the first of a pair sees the first of a random order, the second the
    last, so that every row is inside exactly half of the shadows. More shadows leave the earlier
    ones as they are.

    Args:
        number: of the shadow, from 0.
        members: rows of the pool that the attacked model was trained on; they come first.
        non_members: the others, at most as many.
        seed: of the draw.

    Raises:
        ValueError: more non-members than members.
    """
    if not 0 < non_members <= members:
        raise ValueError(f"expected 0 < non_members={non_members} <= members={members}")
    draw = np.random.default_rng(layer_seed(seed, f"shadows/{number // 2}"))
    first = draw.permutation(2 * non_members) < non_members
    half = first if number % 2 == 0 else ~first
    surplus = np.ones(members - non_members, bool)
    return np.concatenate([half[:non_members], surplus, half[non_members:]])


def train_shadows(
    folder: Path,
    about: dict[str, Any],
    count: int,
    members: int,
    non_members: int,
    seed: int,
    train: TrainShadow,
    done: Callable[[], None] = lambda: None,
    *,
    earlier: dict[str, Any] | None = None,
) -> tuple[Array, Array]:
    """Trains shadows that are not there yet, one after the other, and returns all of them.

    What is kept: `plan.json`, and for each finished shadow `logits_<number>.npy`. An interrupted
    call goes on where it stopped.

    Args:
        folder: for the bookkeeping and the shadows' own folders.
        about: what the shadows must agree in (the attacked weights, the pool); JSON.
        count: how many shadows, even.
        members: see `seen_by`.
        non_members: see `seen_by`.
        seed: see `seen_by`.
        train: trains one.
        done: called when one is finished, also where it was there before.
        earlier: `about` as earlier versions wrote it; such a plan is written anew.

    Returns:
        Scaled logits `[count, pool, T]` float32 and who saw what, `[count, pool]` bool.

    Raises:
        RunError: the folder has shadows of another model or pool, or a file is damaged.
    """
    plan = {**about, "members": members, "non_members": non_members, "seed": seed}
    private_dir(folder)
    path = folder / PLAN
    if not path.exists() or (earlier and read_json(path) == plan | earlier):
        write_json(path, plan)
    elif read_json(path) != plan:
        raise RunError(f"{folder}: has shadows of another model or other rows; remove the folder")
    logits, inside = [], []
    for number in range(count):
        inside.append(seen_by(number, members, non_members, seed))
        kept = folder / f"logits_{number}.npy"
        if not kept.exists():
            found = train(number, np.flatnonzero(inside[-1]), folder / f"{number}")
            _save(kept, found.astype(np.float32))
        logits.append(_load(kept, members + non_members))
        done()
    return np.stack(logits), np.stack(inside)


def finished(folder: Path, count: int) -> int:
    """How many of the first `count` shadows are there already."""
    return sum((folder / f"logits_{number}.npy").exists() for number in range(count))


def digest(*parts: Array, key: bytes | None) -> str:
    """Returns a digest that changes with any of the arrays.

    Args:
        parts: arrays.
        key: `Dataset.key`: a plain hash would let whoever guesses the members check the guess.
    """
    found = hashlib.sha256()
    for part in parts:
        found.update(np.ascontiguousarray(part).tobytes())
    return published(found.hexdigest()[:16], key)


def _save(path: Path, values: Array) -> None:
    temporary = path.with_name(f".{path.name}.tmp.npy")
    try:
        np.save(temporary, values, allow_pickle=False)
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"cannot write {path}: {error.strerror or error}") from error


def _load(path: Path, rows: int) -> Array:
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RunError(f"cannot read {path}: {error}; remove it, then run it again") from error
    if values.ndim != 2 or len(values) != rows:
        raise RunError(f"{path}: expected {rows} rows, got shape {values.shape}; remove it")
    return np.asarray(values)
