"""How hard fresh attackers try: 'fast' at the end of a training, 'thorough' for an audit."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Setting:
    """One amount of effort.

    Attributes:
        name: 'fast' or 'thorough'.
        rows: rows to learn from, where data is generated; at most so many elsewhere.
        image_rows: of these, most that are learned from where they are images, which are larger.
        region_rows: likewise where they are masks.
        reference_rows: most that are learned from where it is not about the run: pixels, an
            untrained encoder, a planted leak.
        reference_tests: most rows that these are tested on.
        planted_rows: most that are learned from where a leak was planted.
        validation_rows: the attackers' own rows to choose by, likewise.
        restarts: from how many random starts each network is trained.
        dimensions: most principal components of whitened rows.
        columns: most columns that trees and neighbours read.
        steps: most iterations of logistic regression, for each strength of its penalty.
        rounds: rounds of boosting.
        dense_epochs: passes of networks over whitened rows.
        epochs: passes of convolutional networks over feature maps.
        image_epochs: passes over images and masks.
        image_batch_size: rows in an update where they are images or masks.
        least_updates: of any network: where rows are few it passes over them more often, as it is
            the number of updates that takes it off the plateau at chance.
        width: channels that size convolutional networks over feature maps.
        image_width: likewise over images and masks.
        features: who attacks features.
        images: who attacks restored images.
        pixels: who attacks pixels.
        untrained: who attacks the features of an untrained encoder.
        own: who attacks features after learning from rows that the encoder was trained on; empty:
            not measured.
        logits: who attacks the business logits.
        regions: who attacks the mask.
        with_regions: who attacks features and mask together; empty: not measured.
        noise: who attacks features with other noise than usual; empty: not measured.
        planted: who looks for the planted leak.
        kept: whether what was read is kept as attackers finish, for an interrupted run of them.
    """

    name: str
    rows: int
    image_rows: int
    region_rows: int
    reference_rows: int
    reference_tests: int
    planted_rows: int
    validation_rows: int
    restarts: int
    dimensions: int
    columns: int
    steps: int
    rounds: int
    dense_epochs: int
    epochs: int
    image_epochs: int
    image_batch_size: int
    least_updates: int
    width: int
    image_width: int
    features: tuple[str, ...]
    images: tuple[str, ...]
    pixels: tuple[str, ...]
    untrained: tuple[str, ...]
    own: tuple[str, ...]
    logits: tuple[str, ...]
    regions: tuple[str, ...]
    with_regions: tuple[str, ...]
    noise: tuple[str, ...]
    planted: tuple[str, ...]
    kept: bool


FAST = Setting(
    name="fast",
    rows=10_000,
    image_rows=8_000,
    region_rows=6_000,
    reference_rows=6_000,
    reference_tests=1_000,
    planted_rows=3_000,
    validation_rows=1_000,
    restarts=1,
    dimensions=256,
    columns=48,
    steps=12,
    rounds=30,
    dense_epochs=12,
    epochs=6,
    image_epochs=3,
    image_batch_size=32,
    least_updates=900,
    width=24,
    image_width=16,
    features=("logistic_standardised", "logistic_whitened", "soft_whitened"),
    images=("logistic_standardised", "soft_standardised"),
    # The network first: the other is sent where it fails.
    pixels=("soft_standardised", "logistic_standardised"),
    untrained=("soft_whitened", "logistic_whitened"),
    own=(),
    logits=("logistic_standardised", "knn_whitened"),
    regions=("logistic_standardised", "soft_raw"),
    with_regions=(),
    noise=(),
    planted=("logistic_standardised",),
    kept=False,
)
THOROUGH = Setting(
    name="thorough",
    rows=20_000,
    image_rows=20_000,
    region_rows=20_000,
    reference_rows=20_000,
    reference_tests=4_000,
    planted_rows=6_000,
    validation_rows=2_000,
    restarts=3,
    dimensions=512,
    columns=128,
    steps=100,
    rounds=100,
    dense_epochs=30,
    epochs=12,
    image_epochs=4,
    image_batch_size=64,
    least_updates=1_250,
    width=32,
    image_width=32,
    features=(
        "logistic_raw",
        "logistic_standardised",
        "logistic_whitened",
        "knn_whitened",
        "trees_standardised",
        "trees_whitened",
        "mlp_whitened",
        "local_raw",
        "local_standardised",
        "local_whitened",
        "soft_standardised",
        "soft_whitened",
        "placed_whitened",
        "discriminator",
        "discriminator_final",
    ),
    images=(
        "logistic_standardised",
        "trees_standardised",
        "mlp_whitened",
        "local_standardised",
        "local_whitened",
        "soft_standardised",
        "placed_standardised",
    ),
    pixels=("logistic_standardised", "local_standardised", "soft_standardised"),
    untrained=("logistic_standardised", "local_standardised", "local_whitened", "soft_whitened"),
    own=(
        "logistic_standardised",
        "mlp_whitened",
        "local_standardised",
        "local_whitened",
        "soft_whitened",
        "discriminator",
        "discriminator_final",
    ),
    logits=("logistic_standardised", "knn_whitened", "trees_standardised", "mlp_whitened"),
    regions=(
        "logistic_standardised",
        "trees_standardised",
        "mlp_whitened",
        "local_raw",
        "soft_raw",
    ),
    with_regions=("logistic_whitened", "local_whitened", "soft_whitened"),
    noise=("logistic_standardised", "local_whitened", "soft_whitened"),
    planted=("logistic_standardised", "mlp_whitened", "local_whitened"),
    kept=True,
)
SETTINGS = {"fast": FAST, "thorough": THOROUGH}
