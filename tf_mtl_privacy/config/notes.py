"""Notes on a configuration: options without effect, and effects that were not asked for."""

from __future__ import annotations

from tf_mtl_privacy.config.run import Config
from tf_mtl_privacy.config.train import TrainConfig


def notes(config: Config) -> list[str]:
    """Returns lines to print before a run begins, or an empty list.

    None of this is an error, and all of it changes the meaning of a run's figures: removal options
    without an adversarial game, as where models share a flagfile; features that contain the
    picture; step sizes and losses of a flagfile that was written for another encoder.
    """
    removal, found = config.removal, []
    given = {
        f"--mask={removal.mask}": removal.has_mask,
        f"--erasure={removal.erasure}": removal.erasure != "none",
        f"--feature_noise={removal.feature_noise:g}": removal.feature_noise > 0,
    }
    unused = [flag for flag, is_given in given.items() if is_given]
    if unused and not config.train.is_adversarial:
        verb = "is" if len(unused) == 1 else "are"
        found.append(
            f"note: --model={config.train.model} plays no game: {', '.join(unused)} {verb} not used"
        )
    if config.model.pixel_path and not config.removal_in_force.has_mask:
        found.append("note: --pixel_path without a mask: the features contain the picture itself")
    return found + _of_another_encoder(config)


def _of_another_encoder(config: Config) -> list[str]:
    found, train, usual = [], config.train, TrainConfig()
    if not config.model.has_start and train.learning_rate < usual.learning_rate:
        line = (
            f"note: the encoder starts from random weights, for which --learning_rate="
            f"{train.learning_rate:g} is small ({usual.learning_rate:g} is usual)"
        )
        compact = config.model.encoder == "compact"
        hint = "; --flagfile=compact.cfg after the others has the values of the compact encoder"
        found.append(line + hint * compact)
    asked = train.has_discriminator and config.loss.perceptual_weight > 0
    is_off = config.effective_perceptual_weights == "none"
    if asked and config.loss.perceptual_weights == "auto" and is_off:
        found.append(
            "note: --perceptual_weights=auto: no perceptual loss, because the encoder does not "
            "start from ImageNet weights"
        )
    return found
