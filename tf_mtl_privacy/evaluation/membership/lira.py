"""The likelihood-ratio attack: is a row's logit like that of models which saw it?

Carlini et al. (2022), "Membership Inference Attacks From First Principles", algorithm 1 (online)
and section V.C (offline).

Which rows each shadow model sees, and what is kept of those that are trained.

LiRA on heads over the fixed encoder: cheap, and weaker than shadows of the whole model.

The shadows share the attacked encoder, which saw the members. What is measured is what the head
remembers, not what the encoder does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from scipy.stats import norm

from tf_mtl_privacy.data.fingerprints import published
from tf_mtl_privacy.errors import RunError
from tf_mtl_privacy.evaluation.membership.attacks import scaled_logits
from tf_mtl_privacy.files import private_dir, read_json, write_json
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.models.losses import business_loss

Array = np.ndarray[Any, Any]
# With fewer shadows on a side a variance of a row's own is mostly noise (section VI.C).
FEWEST_FOR_OWN_VARIANCE = 32
_LEAST_DEVIATION = 1e-6


def offline(observed: Array, shadows: Array, inside: Array) -> Array:
    """How far a row's logit lies above those of models that did not see it, in deviations.

    The paper's score is `Pr[Z <= observed]` for the Gaussian of the models without the row; this is
    the argument of that probability, which orders rows alike and does not round to 1. Several tasks
    count as independent: their deviations are added and divided by the root of their number.

    Args:
        observed: `[N, T]` float, scaled logits of the attacked model on N rows, T tasks; NaN
            without a label, there and in the shadows.
        shadows: `[S, N, T]` float, those of S shadow models.
        inside: `[S, N]` bool, whether a shadow was trained on the row.

    Returns:
        `[N]` float64, larger means member; NaN for a row that every shadow saw, or without a label.
    """
    mean, deviation = _gaussians(shadows, ~inside)
    return np.asarray(((observed - mean) / deviation).sum(axis=1) / np.sqrt(observed.shape[1]))


def online(observed: Array, shadows: Array, inside: Array) -> Array:
    """Log of the likelihood of a row's logits with the row over that without it.

    Args:
        observed: see `offline`.
        shadows: see `offline`.
        inside: see `offline`.

    Returns:
        `[N]` float64, larger means member; NaN for a row that all shadows saw, or none, or without
        a label.
    """
    parts = []
    for seen in (inside, ~inside):
        mean, deviation = _gaussians(shadows, seen)
        parts.append(norm.logpdf(observed, mean, deviation).sum(axis=1))
    return np.asarray(parts[0] - parts[1])


def _gaussians(shadows: Array, used: Array) -> tuple[Array, Array]:
    """Mean `[N, T]` of each row over the shadows that count, and deviation (`[N, T]` or `[T]`)."""
    known = used[:, :, None] & np.isfinite(shadows)
    counts = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, shadows, 0.0).sum(axis=0) / counts
    squares = np.where(known, (shadows - mean) ** 2, 0.0)
    # A row without a label has no Gaussian, and none to say on that of the others.
    labelled = np.isfinite(shadows).any(axis=0)
    if counts[labelled].min(initial=FEWEST_FOR_OWN_VARIANCE) >= FEWEST_FOR_OWN_VARIANCE:
        variance = squares.sum(axis=0) / np.maximum(counts - 1, 1)
    else:
        # One variance for all rows; a row with k shadows has k - 1 degrees of freedom.
        freedom = np.maximum(counts - 1, 0).sum(axis=0)
        variance = squares.sum(axis=(0, 1)) / np.maximum(freedom, 1)
    return mean, np.maximum(np.sqrt(variance), _LEAST_DEVIATION)


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


ATTACKS = {"lira_heads_offline": offline, "lira_heads_online": online}
_BATCH, _RATE = 128, 2e-3


def head_scores(
    business: keras.Model,
    features: Array,
    labels: dict[str, Array],
    members: int,
    heads: int,
    epochs: int,
    seed: int,
    done: Callable[[], None] = lambda: None,
) -> dict[str, Array]:
    """Attack -> `[N]` scores of a pool of rows, members first.

    Each head has B's shape and is trained on half of the pool or more (see `seen_by`). As the
    attacked head was trained longer, on other rows, its logits are first put on the heads' scale:
    for each task the same mean and deviation over the whole pool, which says nothing of who is a
    member.

    Args:
        business: the attacked head B, features -> task -> logits.
        features: `[N, h, w, c]` float, of the pool.
        labels: task -> `[N]` int32, -1 where unknown.
        members: how many of the pool are members; they come first.
        heads: how many are trained; even.
        epochs: passes of each over its rows.
        seed: of weights, halves and the order of rows.
        done: called whenever one is trained.
    """
    values = {task: labels[task] for task in business.output}
    observed = scaled_logits(_predict(_compiled(business), features), values)
    head, logits, inside = _Head(business, features, values), [], []
    for number in range(heads):
        inside.append(seen_by(number, members, len(features) - members, seed))
        head.train(np.flatnonzero(inside[-1]), epochs, seed + number)
        logits.append(scaled_logits(_predict(head.forward, features), values))
        done()
    shadows, saw = np.stack(logits), np.stack(inside)
    own, others = _moments(observed, 0), _moments(shadows, (0, 1))
    aligned = (observed - own[0]) / np.maximum(own[1], 1e-6) * others[1] + others[0]
    return {name: attack(aligned, shadows, saw) for name, attack in ATTACKS.items()}


def _moments(values: Array, axes: int | tuple[int, ...]) -> tuple[Array, Array]:
    """Mean and deviation of what is known; 0 for a task without any label."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=axes), 1)
    mean = np.where(known, values, 0.0).sum(axis=axes) / count
    return mean, np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=axes) / count)


class _Head:
    """One head of B's shape that is trained again and again, so that nothing is traced anew."""

    def __init__(self, business: keras.Model, features: Array, labels: dict[str, Array]) -> None:
        self._model = keras.models.clone_model(business)
        self._features, self._labels = features, labels
        optimizer = keras.optimizers.Adam(_RATE)
        optimizer.build(self._model.trainable_variables)
        self._state = [(variable, variable.numpy()) for variable in optimizer.variables]
        self._biases = [(v, v.numpy()) for v in self._model.variables if len(v.shape) < 2]
        self.forward = _compiled(self._model)

        @tf.function(autograph=False, reduce_retracing=True)
        def step(seen: Any, wanted: dict[str, Any]) -> None:
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(business_loss(self._model(seen, training=True), wanted))
            variables = self._model.trainable_variables
            gradients = tape.gradient(loss, variables)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))

        self._step = step

    def train(self, rows: Array, epochs: int, seed: int) -> None:
        """Starts from new weights and passes over the rows."""
        self._start(seed)
        draw = np.random.default_rng(layer_seed(seed, "heads/order"))
        for _ in range(epochs):
            order = draw.permutation(rows)
            for start in range(0, len(order), _BATCH):
                batch = order[start : start + _BATCH]
                wanted = {task: tf.constant(v[batch]) for task, v in self._labels.items()}
                self._step(tf.constant(self._features[batch], tf.float32), wanted)

    def _start(self, seed: int) -> None:
        for variable, value in (*self._state, *self._biases):
            variable.assign(value)
        draw = np.random.default_rng(layer_seed(seed, "heads/weights"))
        for variable in self._model.trainable_variables:
            if len(variable.shape) > 1:
                # He et al. (2015): variance 2 over the number of inputs.
                spread = np.sqrt(2 / np.prod(variable.shape[:-1]))
                variable.assign(draw.normal(0, spread, variable.shape).astype(np.float32))


def _compiled(head: keras.Model) -> Callable[[Any], dict[str, Any]]:
    return tf.function(
        lambda rows: head(rows, training=False), autograph=False, reduce_retracing=True
    )


def _predict(forward: Callable[[Any], dict[str, Any]], features: Array) -> dict[str, Array]:
    parts = [
        forward(tf.constant(features[start : start + 256], tf.float32))
        for start in range(0, len(features), 256)
    ]
    return {task: np.concatenate([part[task].numpy() for part in parts]) for task in parts[0]}
