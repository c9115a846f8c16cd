"""Validates options, data and networks before a run starts."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.config.run import refuse_choices
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.preprocess import to_float
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.privacy.guards import assert_rows_independent
from tf_mtl_privacy.removal import TRAIN, deterministic, methods

_TRIAL_ROWS = 3


def check_checkpoint_selection(config: Config, *, checked: bool) -> None:
    """Refuses `--checkpoint_selection=best` for a run without an attacker check.

    Raises:
        UsageError: without a check, no networks can be ranked as the best.
    """
    if (
        config.game.checkpoint_selection == "best"
        and not checked
        and config.train.has_discriminator
    ):
        raise UsageError(
            "--checkpoint_selection=best requires an attacker check; set --probe=fast (in Python, "
            "pass `check` to fit), or use --checkpoint_selection=last"
        )


def check_trainable(config: Config, dataset: Dataset) -> None:
    """Refuses data that a run cannot be trained on.

    Raises:
        UsageError: no training or validation rows, fewer than two private classes, or, with
            `--dp_scope=all`, a choice of weights by attackers that read these rows without noise.
    """
    if config.privacy.dp_scope == "all" and dataset.name != "synthetic_faces":
        refuse_choices(config, "rows passed from Python")
    for split in ("train", "validation"):
        if not len(dataset.rows[split]):
            raise UsageError(
                f"--dataset={config.data.dataset}: has no {split} rows; it cannot be trained on"
            )
    if config.train.has_discriminator:
        labels = dataset.labels_of(dataset.rows["train"]).private
        if len(np.unique(labels[labels >= 0])) < 2:
            raise UsageError(
                f"--private_label={config.data.effective_private_label}: the training rows have "
                "fewer than two classes of it"
            )


def check_removal(config: Config) -> None:
    """Refuses, with `--dp_scope=all`, removal methods that are fitted to training rows.

    Raises:
        UsageError: such a method would put training rows into released weights without noise.
    """
    for method in methods(config) if config.privacy.dp_scope == "all" else ():
        if method.fitted_to(config.removal) == TRAIN:
            raise UsageError(
                f"--dp_scope=all: the removal method {method.name!r} is fitted to training rows "
                "without noise; fit it to public faces, or leave it out"
            )


def check_rows_apart(bundle: Bundle, dataset: Dataset) -> None:
    """Refuses an encoder through which one row changes another row's private gradient."""
    images = to_float(tf.constant(dataset.store.images(dataset.rows["train"][:_TRIAL_ROWS])))
    # Noise is drawn for each row independently; it would only blur the comparison.
    encoder = deterministic(bundle.encoder)
    assert_rows_independent(
        bundle.discriminator, images, encoder=lambda rows: encoder(rows, training=False)
    )
