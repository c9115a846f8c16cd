"""Options of `accounting`."""

from __future__ import annotations

import dataclasses

from tf_mtl_privacy.config.options import option
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.verbs.common import CommonOptions


@dataclasses.dataclass(frozen=True)
class AccountingOptions(CommonOptions):
    """Options of `accounting`."""

    rows: int = option(0, "Rows (images) to train on.", low=0)
    batch_size: int = option(0, "Rows per step on average; needs --rows.", low=0)
    sampling_probability: float = option(
        0.0, "Each row's chance to be in a step's batch, instead of --batch_size.", low=0, high=1
    )
    epochs: float = option(0.0, "Passes over the rows, or give --steps.", low=0)
    steps: int = option(0, "Updates, or give --epochs.", low=0)
    noise_multiplier: float = option(
        0.0, "Noise standard deviation over clip norm: print its epsilon.", low=0
    )
    target_epsilon: float = option(0.0, "Print the noise for this epsilon.", low=0)
    delta: float = option(
        0.0, "Probability that epsilon does not bound; 0 means min(1e-5, 1/(2 rows)).", low=0
    )
    max_images_per_person: int = option(
        0, "Most images of one person, for a person's epsilon; 0 means no bound.", low=0
    )
    sampling: str = option(
        "poisson", "How batches are drawn.", choices=("poisson", "shuffled_epochs")
    )
    overflow_probability: float = option(
        0.0,
        "Chance that a batch of fixed capacity is too small, which is part of delta; 0 chooses one "
        "so small that it changes no epsilon.",
        low=0,
        high=1,
    )
    plot: str = option("", "PNG of epsilon over steps to write.")
    statement: bool = option(False, "Print tensorflow-privacy's statement too; slower.")

    def __post_init__(self) -> None:
        super().__post_init__()
        for one, other in (
            ("batch_size", "sampling_probability"),
            ("epochs", "steps"),
            ("noise_multiplier", "target_epsilon"),
        ):
            given = [name for name in (one, other) if getattr(self, name)]
            if len(given) != 1:
                reason = "not both" if given else "one of them, > 0"
                raise UsageError(f"--{one}, --{other}: expected {reason}")
        if self.batch_size > self.rows:
            bound = f"at most --rows={self.rows}" if self.rows else "--rows beside it"
            raise UsageError(f"--batch_size={self.batch_size}: expected {bound}")
        if self.statement and not self.rows:
            raise UsageError("--statement: expected --rows beside it")
