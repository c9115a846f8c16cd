"""The bundle of networks that are trained together: built from a configuration, saved, loaded."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import keras

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import private_dir
from tf_mtl_privacy.models.backbone import start_heads
from tf_mtl_privacy.models.encoder import build_encoder
from tf_mtl_privacy.models.heads import build_business, build_restorer, configured_discriminator
from tf_mtl_privacy.models.layers import check_keras_settings
from tf_mtl_privacy.models.weights import assign_weights, misfit, read_weights, save_weights


@dataclasses.dataclass(frozen=True)
class Bundle:
    """The networks of one run.

    Attributes:
        encoder: E, images `[B, S, S, 3]` in [0, 1] -> features `[B, h, w, c]`.
        business: B, features -> task name -> logits `[B, classes]`.
        discriminator: D, features -> logits `[B, K]`; None for the single-task model.
        restorer: R, features -> images in [0, 1]; None for the single-task model.
    """

    encoder: keras.Model
    business: keras.Model
    discriminator: keras.Model | None = None
    restorer: keras.Model | None = None

    def items(self) -> Iterator[tuple[str, keras.Model]]:
        """Yields names and networks, in order; skips missing networks."""
        for field in dataclasses.fields(self):
            model = getattr(self, field.name)
            if model is not None:
                yield field.name, model


def build_bundle(config: Config, task_classes: Mapping[str, int], private_classes: int) -> Bundle:
    """Builds the networks; the same configuration gives the same initial weights.

    No global random state is set or read. With `--backbone` the encoder and the heads with the same
    shapes start from that run's weights.

    Args:
        config: the run's configuration.
        task_classes: task name -> number of classes, each at least 2.
        private_classes: K, at least 2 unless the model is 'stl'.

    Raises:
        UsageError: a number of classes below 2, an encoder that cannot be built as configured, or
            unsupported settings of Keras (`check_keras_settings`).
        RunError: ImageNet weights could not be fetched.
    """
    check_keras_settings()
    _check_classes(config, task_classes, private_classes)
    model, seed = config.model, config.train.seed
    model = dataclasses.replace(model, freeze_backbone=config.freezes_backbone)
    encoder = build_encoder(
        model,
        config.data.image_size,
        seed=seed,
        removal=config.removal if config.train.is_adversarial else None,
        private_classes=private_classes,
    )
    shape = tuple(encoder.output_shape[1:])
    business = build_business(shape, task_classes, units=model.business_units, seed=seed)
    if not config.train.has_discriminator:
        return Bundle(encoder, business)
    discriminator = configured_discriminator(model, shape, private_classes, seed)
    restorer = build_restorer(
        shape,
        model.feature_stride,
        width=model.restorer_width,
        seed=seed,
        pixel_path=model.pixel_path,
    )
    if model.backbone and model.backbone_heads:
        heads = {"business": business, "discriminator": discriminator, "restorer": restorer}
        start_heads(heads, model.backbone)
    return Bundle(encoder, business, discriminator, restorer)


def save_bundle(bundle: Bundle, folder: str | os.PathLike[str]) -> None:
    """Writes `encoder.weights.h5` and so on, each atomically, into `folder` (mode 0700).

    Raises:
        RunError: the folder cannot be written to.
    """
    target = private_dir(folder)
    for name, model in bundle.items():
        save_weights(model, target / f"{name}.weights.h5")


def load_bundle_weights(bundle: Bundle, folder: str | os.PathLike[str]) -> None:
    """Loads files of `save_bundle`; changes nothing unless all of them exist and fit.

    Raises:
        RunError: a file is missing, damaged or belongs to other networks.
    """
    read = []
    for name, model in bundle.items():
        path = Path(folder) / f"{name}.weights.h5"
        try:
            weights = read_weights(path)
        except ValueError as error:
            raise RunError(f"cannot load {path}: {error}") from error
        problem = misfit(model, weights)
        if problem:
            raise RunError(
                f"{path} does not fit this run's {name}: {problem}; use the configuration it was "
                "trained with"
            )
        read.append((model, weights))
    for model, weights in read:
        assign_weights(model, weights)


def parameter_counts(bundle: Bundle) -> dict[str, int]:
    """Returns network name -> number of weights, trainable or not."""
    return {name: int(model.count_params()) for name, model in bundle.items()}


def _check_classes(config: Config, task_classes: Mapping[str, int], private_classes: int) -> None:
    if not task_classes:
        raise UsageError("--tasks: expected at least one business task")
    for task, classes in task_classes.items():
        if classes < 2:
            raise UsageError(f"--tasks: {task} has {classes} class(es), expected at least 2")
    if config.train.has_discriminator and private_classes < 2:
        raise UsageError(
            f"--private_label={config.data.effective_private_label}: has {private_classes} "
            "class(es), expected at least 2"
        )
