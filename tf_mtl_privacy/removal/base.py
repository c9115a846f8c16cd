"""The interface of a removal method, and the data that methods are fitted to."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import Config, RemovalConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.types import Phase

# Values of `RemovalMethod.fitted_to`: no data, public faces, or rows that the run trains on.
NOTHING, PUBLIC, TRAIN = "nothing", "public", "train"
_HELD_OUT_SHARE, _MAX_HELD_OUT = 10, 1_000


class Fitting:
    """The part of a removal method that is fitted in one run; does nothing by default.

    Attributes:
        optimizers: name -> optimizer, saved with every checkpoint.
        networks: name -> variables of networks beside the encoder, saved with every checkpoint and
            never released.
    """

    def __init__(self) -> None:
        self.optimizers: dict[str, Any] = {}
        self.networks: dict[str, list[Any]] = {}

    def phase(self, name: str, epochs: int) -> Phase:
        """Builds the phase `name` that `RemovalMethod.phases` announced."""
        raise NotImplementedError(f"no phase {name}")

    def refit(self) -> None:
        """Adapts the method to the encoder as it is now.

        Called before the first step of the joint phase and after the last step of each of its
        epochs, ahead of the validation. The same encoder must give the same result, because a run
        that was killed repeats the call.
        """


class RemovalMethod:
    """One way of taking the private label out of the features; `removal.register` adds it.

    A method may change the image before the encoder sees it (`on_image`), change the features that
    leave the encoder (`on_features`), or both. All hooks but `is_on` have a default that does
    nothing. Methods have no state of their own: what they learn is in the encoder's weights, and
    what they need while they learn is in their `Fitting`.

    Attributes:
        name: unique among the registered methods.
        prefix: start of the names of layers that the method adds before the backbone. When an
            encoder starts from another run, these layers are taken over together or not at all.
    """

    name: str = ""
    prefix: str = ""

    def is_on(self, removal: RemovalConfig) -> bool:
        """Returns True if these options select the method."""
        raise NotImplementedError

    def fitted_to(self, removal: RemovalConfig) -> str:
        """Returns the data that it is fitted to: `NOTHING`, `PUBLIC` or `TRAIN`."""
        return NOTHING

    def label_access(self, removal: RemovalConfig) -> str:
        """States in results.json which labels it reads; empty if it reads none."""
        return ""

    def record(self, removal: RemovalConfig, *, on: bool) -> Mapping[str, Any]:
        """Returns its entries in `removal` of results.json, for a run in which it is on or not."""
        return {}

    def on_image(self, image: Any, removal: RemovalConfig, seed: int) -> tuple[Any, Any]:
        """Changes the encoder's input.

        Args:
            image: a Keras tensor `[B, S, S, 3]` in [0, 1].
            removal: the run's options.
            seed: seed of initial weights.

        Returns:
            The changed image, of the same shape, and `[B, S, S, 1]`, 1 where it was painted over,
            or None if no pixel is.
        """
        return image, None

    def on_features(self, features: Any, removal: RemovalConfig, private_classes: int) -> Any:
        """Changes the encoder's output, a Keras tensor `[B, h, w, c]`; keeps its shape.

        Layers whose names start with `adapter_` may be missing in a run that this one starts from.
        """
        return features

    def phases(self, removal: RemovalConfig) -> dict[str, int]:
        """Returns phase name -> maximum number of epochs, of phases that train it alone."""
        return {}

    def fitting(self, config: Config, dataset: Dataset, encoder: keras.Model) -> Fitting:
        """Makes the part that is fitted in a run.

        Args:
            config: the run's configuration.
            dataset: its rows; private labels may be read only if `fitted_to` is `TRAIN`.
            encoder: has the method's layers.
        """
        return Fitting()

    def start(self, encoder: keras.Model, seed: int) -> None:
        """Makes random draws repeatable from `seed`, at the start of training without DP."""

    def enter(self, encoder: keras.Model, *, fitted: bool) -> None:
        """Prepares the encoder for a phase; `fitted` if the method's own phases are over."""

    def release(self, encoder: keras.Model) -> None:
        """Sets the encoder to its released state."""

    def disabled(self, encoder: keras.Model) -> contextlib.AbstractContextManager[None]:
        """Temporarily switches the method off, if that is possible."""
        return contextlib.nullcontext()

    def draws_apart(self, encoder: keras.Model) -> contextlib.AbstractContextManager[None]:
        """Keeps random draws in this context from changing later draws."""
        return contextlib.nullcontext()

    def deterministic(self, encoder: keras.Model) -> keras.Model:
        """Returns the encoder without random draws, with shared weights; itself if it has none."""
        return encoder


def encode_rows(
    encoder: keras.Model, dataset: Dataset, rows: np.ndarray, batch_size: int = 256
) -> Iterator[np.ndarray]:
    """Yields the encoder's features of `rows`, `[<= batch_size, h, w, c]` float32, in order.

    Every call of the encoder sees the same number of rows (the last batch is padded), so that it is
    compiled once.
    """
    encode = tf.function(lambda image: encoder(to_float(image), training=False), autograph=False)
    batch_size = min(batch_size, max(len(rows), 1))
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        batch = dataset.batch(part, capacity=batch_size)
        yield encode(tf.convert_to_tensor(batch.image)).numpy()[: len(part)]


def public_faces(config: Config, option: str, classes: tuple[str, ...]) -> Dataset:
    """Opens synthetic faces of the stream 'backbone', which no split of the run's own data has.

    They show no real person, so that reading their private label reveals nothing. Methods learn
    from their train rows; validation rows are held out of the same stream.

    Args:
        config: the run's, already checked: its data is synthetic and without identities.
        option: the flag that selects them, for the error.
        classes: names of the private classes that the run's own data has.

    Raises:
        UsageError: the public faces have other private classes.
    """
    data = dataclasses.replace(
        config.data,
        synthetic_stream="backbone",
        synthetic_shift="none",
        train_rows=config.removal.region_rows,
        validation_rows=1,
        test_rows=1,
    )
    whole = open_dataset(data)
    if whole.private_classes != classes:
        raise UsageError(
            f"--{option}=public: the public faces have other classes of "
            f"--private_label={config.data.effective_private_label} than this data"
        )
    rows = whole.rows["train"]
    held = held_out(len(rows))
    split = {"train": rows[held:], "validation": rows[:held], "test": np.zeros(0, np.int64)}
    return dataclasses.replace(whole, rows=split)


def held_out(rows: int) -> int:
    """Returns how many of `rows` public faces are held out for validation."""
    return min(rows // _HELD_OUT_SHARE, _MAX_HELD_OUT)
