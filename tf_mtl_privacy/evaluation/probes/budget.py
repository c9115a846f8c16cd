"""Effort of fresh attackers: 'fast' at the end of a training, 'thorough' for an audit."""

from __future__ import annotations

import dataclasses

BATCH = 64


@dataclasses.dataclass(frozen=True)
class Setting:
    """One amount of effort.

    Attributes:
        name: 'fast' or 'thorough'.
        rows: rows to learn from; fewer only where the data has fewer.
        image_rows: of these, most that are learned from where they are images, which are larger.
        region_rows: likewise where they are masks.
        validation_rows: rows to choose by, likewise.
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
        enough: balanced accuracy of validation rows at which a network stops.
        patience: how many times as many updates the patient attackers get; 1: none are trained.
        curves: targets whose strongest attacker is trained again on a quarter and a half of its
            rows.
        both: targets that are attacked from unseen rows and from the encoder's own; the others
            from the kind of which there are more.
        features: who attacks features, learning from the kind of rows of which there are more.
        images: who attacks restored images.
        pixels: who attacks pixels.
        untrained: who attacks the features of an untrained encoder.
        features_again: who attacks features, learning from the other kind of rows.
        logits: who attacks the business logits.
        regions: who attacks the mask.
        with_regions: who attacks features and mask together; empty: not measured.
        noise: who attacks features with other noise than usual; empty: not measured.
        planted: who looks for the planted leak.
        kept: whether readings are kept as attackers finish, for an interrupted run of them.
    """

    name: str
    rows: int
    image_rows: int
    region_rows: int
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
    enough: float
    patience: int
    curves: tuple[str, ...]
    both: tuple[str, ...]
    features: tuple[str, ...]
    images: tuple[str, ...]
    pixels: tuple[str, ...]
    untrained: tuple[str, ...]
    features_again: tuple[str, ...]
    logits: tuple[str, ...]
    regions: tuple[str, ...]
    with_regions: tuple[str, ...]
    noise: tuple[str, ...]
    planted: tuple[str, ...]
    kept: bool

    def updates(self, name: str, rows: int) -> int:
        """Returns the most updates of a network that reads feature maps, see `fit_network`.

        Args:
            name: the attacker.
            rows: number of rows that it learns from.
        """
        epochs = self.dense_epochs if name.startswith("mlp") else self.epochs
        _, steps, epochs = passes(rows, BATCH, epochs, self.least_updates)
        return epochs * steps


def passes(rows: int, batch_size: int, epochs: int, least_updates: int) -> tuple[int, int, int]:
    """Returns (rows in an update, updates in a pass, passes) of a network that attacks.

    Args:
        rows: number of rows that it learns from, > 0.
        batch_size: rows in an update; fewer where a quarter of `rows` are fewer, at least 2.
        epochs: passes, > 0.
        least_updates: more passes where these are fewer updates.
    """
    batch = max(2, min(batch_size, rows // 4))
    steps = max(rows // batch, 1)
    return batch, steps, max(epochs, -(-least_updates // steps))


FAST = Setting(
    name="fast",
    rows=10_000,
    image_rows=8_000,
    region_rows=6_000,
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
    enough=0.99,
    patience=1,
    curves=("features",),
    both=("features", "logits"),
    features=("logistic_standardised", "logistic_whitened", "soft_whitened"),
    images=("logistic_standardised", "soft_standardised"),
    # The network first: the other is sent where it fails.
    pixels=("soft_standardised", "logistic_standardised"),
    untrained=("soft_whitened", "logistic_whitened"),
    features_again=("logistic_whitened", "soft_whitened"),
    logits=("logistic_standardised", "knn_whitened"),
    regions=("logistic_standardised", "soft_raw"),
    with_regions=(),
    noise=(),
    planted=("logistic_standardised",),
    kept=True,
)
THOROUGH = Setting(
    name="thorough",
    rows=20_000,
    image_rows=20_000,
    region_rows=20_000,
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
    enough=0.99,
    patience=4,
    curves=("features", "restored", "masked_pictures"),
    both=("features", "logits", "restored", "masked_pictures", "regions", "features_and_regions"),
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
    features_again=(
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
