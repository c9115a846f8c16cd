"""The likelihood-ratio attack LiRA, with shadow models of the whole run or of its head.

Carlini et al. (2022), "Membership Inference Attacks From First Principles", algorithm 1 (online)
and section V.C (offline). LiRA on heads is cheap and weaker: its shadows share the attacked
encoder, which saw the members, so that it measures what the head remembers and not what the
encoder does.
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
from tf_mtl_privacy.types import Array

# With fewer shadows on a side the variance of a single row is mostly noise (section VI.C).
MIN_FOR_OWN_VARIANCE = 32
_MIN_DEVIATION = 1e-6


def offline(observed: Array, shadows: Array, inside: Array) -> Array:
    """Returns the z-score of each row's logit among models that were not trained on it.

    The paper's score is `Pr[Z <= observed]` for the Gaussian of those models. The z-score orders
    rows alike and does not round to 1. Tasks count as independent: z-scores are added and divided
    by the square root of their number.

    Args:
        observed: `[N, T]` float, scaled logits of the attacked model on N rows, T tasks; NaN
            without a label, there and in the shadows.
        shadows: `[S, N, T]` float, those of S shadow models.
        inside: `[S, N]` bool, True where a shadow was trained on the row.

    Returns:
        `[N]` float64, larger means member; NaN for rows that every shadow saw, or without a label.
    """
    mean, deviation = _gaussians(shadows, ~inside)
    return np.asarray(((observed - mean) / deviation).sum(axis=1) / np.sqrt(observed.shape[1]))


def online(observed: Array, shadows: Array, inside: Array) -> Array:
    """Returns the log likelihood ratio of each row's logits, trained on the row or not.

    Args:
        observed: see `offline`.
        shadows: see `offline`.
        inside: see `offline`.

    Returns:
        `[N]` float64, larger means member; NaN for rows that all shadows or none saw, or without a
        label.
    """
    parts = []
    for seen in (inside, ~inside):
        mean, deviation = _gaussians(shadows, seen)
        parts.append(norm.logpdf(observed, mean, deviation).sum(axis=1))
    return np.asarray(parts[0] - parts[1])


def _gaussians(shadows: Array, used: Array) -> tuple[Array, Array]:
    """Returns means over the used shadows, `[N, T]`, and standard deviations, `[N, T]` or `[T]`."""
    known = used[:, :, None] & np.isfinite(shadows)
    counts = known.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean = np.where(known, shadows, 0.0).sum(axis=0) / counts
    squares = np.where(known, (shadows - mean) ** 2, 0.0)
    # Rows without a label have no Gaussian and do not affect those of the others.
    labelled = np.isfinite(shadows).any(axis=0)
    if counts[labelled].min(initial=MIN_FOR_OWN_VARIANCE) >= MIN_FOR_OWN_VARIANCE:
        variance = squares.sum(axis=0) / np.maximum(counts - 1, 1)
    else:
        # A pooled variance; a row with k shadows has k - 1 degrees of freedom.
        freedom = np.maximum(counts - 1, 0).sum(axis=0)
        variance = squares.sum(axis=(0, 1)) / np.maximum(freedom, 1)
    return mean, np.maximum(np.sqrt(variance), _MIN_DEVIATION)


# (number of the shadow, [n] int64 places in the pool that it is trained on, folder to work in)
# -> [pool, T] scaled logits on the whole pool.
TrainShadow = Callable[[int, Array, Path], Array]
PLAN = "plan.json"


def seen_by(number: int, members: int, non_members: int, seed: int) -> Array:
    """Returns the rows of the pool that a shadow is trained on, `[members + non_members]` bool.

    Each shadow has as many training rows as the attacked model, `members`. Surplus members, beyond
    the number of non-members, are in all shadows and cannot be attacked. Of the other rows each
    shadow has half. Shadows come in pairs that halve one random order, so that every row is in
    exactly half of them. More shadows do not change the earlier ones.

    Args:
        number: number of the shadow, from 0.
        members: number of training rows of the attacked model in the pool; they come first.
        non_members: number of the other rows, at most `members`.
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
    """Trains the missing shadows, one after the other, and returns the logits of all.

    `plan.json` and, for each finished shadow, `logits_<number>.npy` are saved, so that an
    interrupted call resumes.

    Args:
        folder: folder for these files and for the shadows.
        about: everything that the shadows must agree in (the attacked weights, the pool), as JSON.
        count: number of shadows, even.
        members: see `seen_by`.
        non_members: see `seen_by`.
        seed: see `seen_by`.
        train: trains one.
        done: called for each shadow, new or saved.
        earlier: `about` as earlier versions wrote it; such a plan is replaced.

    Returns:
        Scaled logits `[count, pool, T]` float32, and `inside`, `[count, pool]` bool.

    Raises:
        RunError: the folder has shadows of another model or pool, or a file is damaged.
    """
    plan = {**about, "members": members, "non_members": non_members, "seed": seed}
    private_dir(folder)
    path = folder / PLAN
    if not path.exists() or (earlier and read_json(path) == plan | earlier):
        write_json(path, plan)
    elif read_json(path) != plan:
        raise RunError(
            f"{folder}: has shadow models of another model or other rows; remove the folder"
        )
    logits, inside = [], []
    for number in range(count):
        inside.append(seen_by(number, members, non_members, seed))
        path = folder / f"logits_{number}.npy"
        if not path.exists():
            values = train(number, np.flatnonzero(inside[-1]), folder / f"{number}")
            _save(path, values.astype(np.float32))
        logits.append(_load(path, members + non_members))
        done()
    return np.stack(logits), np.stack(inside)


def finished(folder: Path, count: int) -> int:
    """Returns how many of the first `count` shadows are saved."""
    return sum((folder / f"logits_{number}.npy").exists() for number in range(count))


def digest(*parts: Array, key: bytes | None) -> str:
    """Returns a digest that changes with any of the arrays.

    Args:
        parts: arrays.
        key: `Dataset.key`. A plain hash would let anybody check a guess of the members.
    """
    result = hashlib.sha256()
    for part in parts:
        result.update(np.ascontiguousarray(part).tobytes())
    return published(result.hexdigest()[:16], key)


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
        raise RunError(f"cannot read {path}: {error}; remove it and rerun the command") from error
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
    """Runs LiRA with shadow heads: attack -> `[N]` scores of a pool of rows, members first.

    Each head has the shape of B and is trained on half of the pool or more (see `seen_by`). The
    attacked head was trained longer and on other rows, so its logits are first brought to the mean
    and standard deviation of the heads' over the whole pool, for each task; this reveals no member.

    Args:
        business: the attacked head B, features -> task -> logits.
        features: `[N, h, w, c]` float, of the pool.
        labels: task -> `[N]` int32, -1 where unknown.
        members: number of members in the pool; they come first.
        heads: number of heads; even.
        epochs: epochs of each head.
        seed: of weights, halves and the order of rows.
        done: called after each head.
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
    """Returns mean and standard deviation of the finite values; 0 for a task without any label."""
    known = np.isfinite(values)
    count = np.maximum(known.sum(axis=axes), 1)
    mean = np.where(known, values, 0.0).sum(axis=axes) / count
    return mean, np.sqrt(np.where(known, (values - mean) ** 2, 0.0).sum(axis=axes) / count)


class _Head:
    """A head of B's shape that is trained repeatedly, without tracing its graph again."""

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
        """Trains from new weights on some rows."""
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
                # He et al. (2015): variance 2 / number of inputs.
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
