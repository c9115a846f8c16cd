"""How hard the discriminator is to play against (paper, section 3.2, step 3)."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import check_options, option


@dataclasses.dataclass(frozen=True)
class GameConfig:
    """How hard the discriminator is to play against (paper, section 3.2, step 3)."""

    discriminator_steps: int = option(
        1,
        "Updates of the discriminator for each update of the encoder in the joint phase; each "
        "further one draws a batch of its own.",
        low=1,
    )
    discriminators: int = option(
        1,
        "Discriminators that the encoder plays against at once; each draws batches of its own.",
        low=1,
        high=16,
    )
    discriminator_restart_epochs: int = option(
        0,
        "Joint epochs after which one discriminator starts anew, in turn; 0 means never.",
        low=0,
    )
    discriminator_labels: str = option(
        "private",
        "What discriminators learn: the private label, or, to see what the game contributes, a "
        "random label in its place.",
        choices=("private", "shuffled"),
    )
    beta_warmup_epochs: float = option(
        0.0, "Joint epochs over which beta grows from 0 to its first value.", low=0
    )
    check_epochs: int = option(
        0,
        "Joint epochs between checks by a fresh attacker on validation rows; 0 means only after "
        "the last one.",
        low=0,
    )
    checkpoint_selection: str = option(
        "last",
        "Which networks of the joint phase to keep: the last, or those of the checked epoch that "
        "comes closest to the stop rule on validation rows: the fewest parts not met, then the "
        "least missed, each part as a share of its bound; changes over epochs are left out.",
        choices=("last", "best"),
    )

    def __post_init__(self) -> None:
        check_options(self)
