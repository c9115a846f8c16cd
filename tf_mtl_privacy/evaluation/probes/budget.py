"""Budgets of fresh attackers: 'fast' at the end of a training, 'thorough' for an audit."""

from __future__ import annotations

import dataclasses

BATCH = 64


@dataclasses.dataclass(frozen=True)
class ProbeBudget:
    """Numbers of rows, updates and restarts, and the attackers of each target.

    Attributes:
        name: 'fast' or 'thorough'.
        rows: training rows of an attacker; fewer only where the data has fewer.
        image_rows: of these, at most so many where they are images, which are larger.
        region_rows: likewise for masks.
        validation_rows: rows for choosing, likewise.
        restarts: random starts of each network.
        dimensions: largest number of principal components of whitened rows.
        columns: largest number of columns that trees and neighbours read.
        steps: largest number of iterations of logistic regression, for each penalty.
        rounds: rounds of boosting.
        dense_epochs: epochs of networks over whitened rows.
        epochs: epochs of convolutional networks over feature maps.
        image_epochs: epochs over images and masks.
        image_batch_size: batch size for images and masks.
        min_updates: updates of any network. With few rows it takes more epochs, because networks
            leave the plateau at chance after a number of updates.
        width: channels that size convolutional networks over feature maps.
        image_width: likewise over images and masks.
        enough: balanced accuracy on validation rows at which a network stops.
        patience: factor of updates for the networks that are trained for longer; 1 trains none.
        curves: targets whose strongest attacker is also trained on a quarter and on half of its
            rows.
        both: targets that are attacked from unseen rows and from the encoder's own; the others from
            the kind of which there are more.
        features: attackers of features, trained on the kind of rows of which there are more.
        images: attackers of restored images and masked pictures.
        pixels: attackers of pixels.
        untrained: attackers of the features of an untrained encoder.
        features_again: attackers of features, trained on the other kind of rows.
        logits: attackers of the business logits.
        regions: attackers of the mask.
        with_regions: attackers of features and mask together; empty: not measured.
        noise: attackers of features with one draw of noise and without; empty: not measured.
        planted: attackers of the planted leak.
        kept: if readings are saved as attackers finish, so that an interrupted attack resumes.
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
    min_updates: int
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
        """Returns the largest number of updates of a network over feature maps, see `fit_network`.

        Args:
            name: the attacker.
            rows: number of its training rows.
        """
        epochs = self.dense_epochs if name.startswith("mlp") else self.epochs
        _, steps, epochs = passes(rows, BATCH, epochs, self.min_updates)
        return epochs * steps


def passes(rows: int, batch_size: int, epochs: int, min_updates: int) -> tuple[int, int, int]:
    """Returns (batch size, updates an epoch, epochs) of a network.

    Args:
        rows: number of its training rows, > 0.
        batch_size: largest batch size; it is at most a quarter of `rows`, and at least 2.
        epochs: smallest number of epochs, > 0.
        min_updates: smallest number of updates.
    """
    batch = max(2, min(batch_size, rows // 4))
    steps = max(rows // batch, 1)
    return batch, steps, max(epochs, -(-min_updates // steps))


FAST = ProbeBudget(
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
    min_updates=900,
    width=24,
    image_width=16,
    enough=0.99,
    patience=1,
    curves=("features",),
    both=("features", "logits"),
    features=("logistic_standardised", "logistic_whitened", "softmax_pool_cnn_whitened"),
    images=("logistic_standardised", "softmax_pool_cnn_standardised"),
    # The network first: the other one only runs where it fails.
    pixels=("softmax_pool_cnn_standardised", "logistic_standardised"),
    untrained=("softmax_pool_cnn_whitened", "logistic_whitened"),
    features_again=("logistic_whitened", "softmax_pool_cnn_whitened"),
    logits=("logistic_standardised", "knn_whitened"),
    regions=("logistic_standardised", "softmax_pool_cnn_raw"),
    with_regions=(),
    noise=(),
    planted=("logistic_standardised",),
    kept=True,
)
THOROUGH = ProbeBudget(
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
    min_updates=1_250,
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
        "patch_cnn_raw",
        "patch_cnn_standardised",
        "patch_cnn_whitened",
        "softmax_pool_cnn_standardised",
        "softmax_pool_cnn_whitened",
        "positional_cnn_whitened",
        "discriminator",
        "discriminator_final",
    ),
    images=(
        "logistic_standardised",
        "trees_standardised",
        "mlp_whitened",
        "patch_cnn_standardised",
        "patch_cnn_whitened",
        "softmax_pool_cnn_standardised",
        "positional_cnn_standardised",
    ),
    pixels=("logistic_standardised", "patch_cnn_standardised", "softmax_pool_cnn_standardised"),
    untrained=(
        "logistic_standardised",
        "patch_cnn_standardised",
        "patch_cnn_whitened",
        "softmax_pool_cnn_whitened",
    ),
    features_again=(
        "logistic_standardised",
        "mlp_whitened",
        "patch_cnn_standardised",
        "patch_cnn_whitened",
        "softmax_pool_cnn_whitened",
        "discriminator",
        "discriminator_final",
    ),
    logits=("logistic_standardised", "knn_whitened", "trees_standardised", "mlp_whitened"),
    regions=(
        "logistic_standardised",
        "trees_standardised",
        "mlp_whitened",
        "patch_cnn_raw",
        "softmax_pool_cnn_raw",
    ),
    with_regions=("logistic_whitened", "patch_cnn_whitened", "softmax_pool_cnn_whitened"),
    noise=("logistic_standardised", "patch_cnn_whitened", "softmax_pool_cnn_whitened"),
    planted=("logistic_standardised", "mlp_whitened", "patch_cnn_whitened"),
    kept=True,
)
PROBE_BUDGETS = {"fast": FAST, "thorough": THOROUGH}
