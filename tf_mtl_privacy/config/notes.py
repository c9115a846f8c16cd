"""What a run's configuration asks for and does not get, or gets without having asked."""

from __future__ import annotations

from tf_mtl_privacy.config.run import Config


def notes(config: Config) -> list[str]:
    """One line each, for people, before a run begins; nothing where there is nothing to say.

    Two things are no mistakes, and change what a run's figures mean: options of removal beside a
    model that plays no game, as where a flagfile is shared by all models; and features that carry
    the picture as it is.
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
    return found
