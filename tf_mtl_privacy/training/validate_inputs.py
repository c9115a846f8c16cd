"""What a run needs before it starts, refused in one line where it is not there."""

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
from tf_mtl_privacy.removal.noise import noiseless

_TRIAL_ROWS = 3


def check_keeping(config: Config, *, checked: bool) -> None:
    """Refuses to keep the best networks of a run where nothing says which they are.

    Raises:
        UsageError: there is no check.
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
    """Refuses data on which training would make no sense.

    Raises:
        UsageError: no training or validation rows, fewer than two private classes, or with
            `--dp_scope=all` a choice of weights by who reads these rows without noise.
    """
    if config.privacy.dp_scope == "all" and dataset.name != "synthetic_faces":
        refuse_choices(config, "rows that were handed over")
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


def check_rows_apart(bundle: Bundle, dataset: Dataset) -> None:
    """Refuses an encoder through which one row moves another row's private gradient."""
    images = to_float(tf.constant(dataset.store.images(dataset.rows["train"][:_TRIAL_ROWS])))
    # Noise on the features is drawn for each row by itself; it would only blur the comparison.
    encoder = noiseless(bundle.encoder)
    assert_rows_independent(
        bundle.discriminator, images, encoder=lambda rows: encoder(rows, training=False)
    )
