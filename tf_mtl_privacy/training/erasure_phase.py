"""Keeps the encoder's erasure fitted while the encoder changes in the joint phase."""

from __future__ import annotations

import dataclasses

import numpy as np

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.removal.erasure import before_erasure, erasure_of, fit_eraser
from tf_mtl_privacy.training.phase import Phase, encode_rows
from tf_mtl_privacy.training.public_faces import public_faces

# More rows make a refit slower, not much better: a class mean of some hundred is good enough.
_MOST_ROWS = 6_000


def with_erasure(phase: Phase, config: Config, dataset: Dataset, bundle: Bundle) -> Phase:
    """The joint phase with its encoder's erasure refitted along the way.

    It is fitted before the first step and after the last step of every epoch, ahead of the
    validation: so before each epoch, and once at the end. The phase itself where the encoder has
    none.

    Args:
        phase: the joint phase.
        config: the run's configuration.
        dataset: its rows; their private labels are read only with `--erasure_labels=train`.
        bundle: its networks.

    Raises:
        UsageError: the public faces have other private classes than the data set.
    """
    if erasure_of(bundle.encoder) is None:
        return phase
    part = ErasurePart(config, dataset, bundle)

    def before_epoch(epoch: int) -> None:
        phase.before_epoch(epoch)
        # Every other epoch begins where the one before it was validated.
        if epoch == 0:
            part.refit()

    def validate() -> dict[str, float]:
        part.refit()
        return phase.validate()

    return dataclasses.replace(phase, before_epoch=before_epoch, validate=validate)


class ErasurePart:
    """What an erasure is fitted to. Arguments as those of `with_erasure`."""

    def __init__(self, config: Config, dataset: Dataset, bundle: Bundle) -> None:
        self._layer, self._encoder = erasure_of(bundle.encoder), before_erasure(bundle.encoder)
        self._seed, self._data = layer_seed(config.train.seed, "erasure"), dataset
        self._rank = config.removal.erasure_rank
        self._components = config.removal.erasure_components
        if config.removal.erasure_labels == "public":
            self._data = public_faces(config)
            if self._data.private_classes != dataset.private_classes:
                raise UsageError(
                    "--erasure_labels=public: the public faces have other classes of "
                    f"--private_label={config.data.effective_private_label} than this data"
                )
        rows = self._data.rows["train"]
        rows = rows[self._data.labels_of(rows).private >= 0]
        rows = np.random.default_rng(self._seed).permutation(rows)[:_MOST_ROWS]
        self._rows = np.sort(rows)

    def refit(self) -> None:
        """Fits the erasure to the features that the encoder has now.

        What business labels say is kept: erased is what the private label says beyond them.
        """
        parts = list(encode_rows(self._encoder, self._data, self._rows))
        features = np.concatenate(parts).reshape(len(self._rows), -1)
        labels = self._data.labels_of(self._rows)
        cells = np.stack([labels.business[task] for task in self._data.task_classes], axis=1)
        _, strata = np.unique(cells, axis=0, return_inverse=True)
        found = fit_eraser(
            features,
            labels.private,
            len(self._data.private_classes),
            strata=strata.reshape(-1),
            rank=self._rank,
            components=self._components,
            seed=self._seed,
        )
        assert self._layer is not None
        rank = found.right.shape[1]
        right, left = np.zeros(self._layer.right.shape), np.zeros(self._layer.left.shape)
        right[:, :rank], left[:rank] = found.right, found.left
        self._layer.set_weights([found.mean, right, left])
