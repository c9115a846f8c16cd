"""Feature inversion: what an attacker's own decoder restores of pictures that it never saw.

Whose pictures the attacker learns from is the caller's choice, and to be said beside the figures.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.evaluation.inversion_decoder import DecoderSetting, fit_decoder
from tf_mtl_privacy.evaluation.quality import restoration
from tf_mtl_privacy.evaluation.retrieval import (
    Embedding,
    Retrieval,
    nearest_is_own,
    nearest_is_same_person,
)
from tf_mtl_privacy.models.pixels import to_cells
from tf_mtl_privacy.training.losses import psnr

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True)
class InversionSetting:
    """How hard the attacker tries.

    Attributes:
        rows: most rows that it learns from.
        tests: most pictures that are restored and scored.
        decoder: of its network.
    """

    rows: int
    tests: int
    decoder: DecoderSetting


SETTINGS = {
    "fast": InversionSetting(2_000, 1_000, DecoderSetting(48, 1, 8, 2e-3)),
    "thorough": InversionSetting(10_000, 2_000, DecoderSetting(128, 3, 20, 1e-3)),
}


def invert(
    features: Array,
    images: Array,
    target_features: Array,
    target_images: Array,
    *,
    person: Array | None = None,
    restored: tuple[Array, Array] | None = None,
    setting: str = "fast",
    seed: int = 0,
    done: Callable[[int], None] = lambda count: None,
) -> dict[str, Any]:
    """Trains a decoder on the attacker's pictures and restores others from their features.

    Nothing is stored. Retrieval asks whether a restored picture is nearest to another picture of
    the same person, where the data says who is who; else to its own original among all. The
    embedding is `retrieval.Embedding`, of the attacker's pictures.

    Args:
        features: `[N, h, w, c]` float32 of the attacker's pictures, none of them attacked. At most
            the setting's `rows` are used, the first ones.
        images: `[N, H, W, 3]` uint8, those pictures.
        target_features: `[M, h, w, c]` float32, what is attacked. At most the setting's `tests`.
        target_images: `[M, H, W, 3]` uint8, the originals, H >= 11.
        person: `[M]` int who is on the targets, -1 where unknown, or None.
        restored: `([N, H, W, 3], [M, H, W, 3])` float32 in [0, 1], what a released restorer makes
            of both features: the attacker has it, too. None where none is released.
        setting: 'fast' or 'thorough'.
        seed: of everything that is random.
        done: called with 1 after every epoch of `epochs(setting)`.

    Returns:
        `psnr_db`, `ssim` (means over pictures), `retrieval_rank1`, `retrieval_rank1_ci95` (Wilson),
        `chance` of it, `images` (targets), `mean_image` (`psnr_db`, `ssim` of the attacker's mean
        image); further `retrieval` ("same_person" or "own_picture"), `retrieval_queries`,
        `retrieval_of_originals` (the same figure with originals in place of restored pictures:
        what the embedding can do at best) and `attacker_images`.

    Raises:
        UsageError: no such setting.
        ValueError: shapes that do not fit.
    """
    if setting not in SETTINGS:
        raise UsageError(f"setting={setting!r}: expected {' or '.join(SETTINGS)}")
    effort = SETTINGS[setting]
    features, images = features[: effort.rows], images[: effort.rows]
    target_features, target_images = target_features[: effort.tests], target_images[: effort.tests]
    if restored is not None:
        features, target_features = (
            _beside(rows, pictures[: len(rows)])
            for rows, pictures in zip((features, target_features), restored, strict=True)
        )
    restore = fit_decoder(features, images, effort.decoder, seed, done)
    decoded, originals = restore(target_features), target_images / np.float32(255)
    mean = images.mean(0, dtype=np.float64).astype(np.float32) / 255
    baseline = _quality(np.broadcast_to(mean, originals.shape), originals)
    embedding = Embedding(images / np.float32(255), seed)
    gallery = embedding(originals)
    who = None if person is None else np.asarray(person)[: effort.tests]
    found, kind = _retrieval(embedding(decoded), gallery, who)
    ceiling, _ = _retrieval(gallery, gallery, who)
    return {
        **_quality(decoded, originals),
        "retrieval_rank1": found.hits / found.queries,
        "retrieval_rank1_ci95": wilson_interval(found.hits, found.queries),
        "chance": found.chance,
        "images": len(originals),
        "mean_image": baseline,
        "retrieval": kind,
        "retrieval_queries": found.queries,
        "retrieval_of_originals": ceiling.hits / ceiling.queries,
        "attacker_images": len(images),
    }


def epochs(setting: str) -> int:
    """What `done` of `invert` adds up to."""
    return SETTINGS[setting].decoder.epochs


def _beside(features: Array, pictures: Array) -> Array:
    """Features with the pictures' pixels as further channels of their cells."""
    stride = pictures.shape[1] // features.shape[1]
    return np.concatenate([features, to_cells(pictures, stride, "restored")], -1)


def _retrieval(queries: Array, gallery: Array, person: Array | None) -> tuple[Retrieval, str]:
    by_person = None if person is None else nearest_is_same_person(queries, gallery, person)
    if by_person is not None:
        return by_person, "same_person"
    return nearest_is_own(queries, gallery), "own_picture"


def _quality(restored: Array, originals: Array) -> dict[str, Any]:
    """`psnr_db` and `ssim`, means over pictures in [0, 1]."""
    found: dict[str, list[Array]] = {"psnr": [], "ssim": []}
    for start in range(0, len(originals), 256):
        pair = restored[start : start + 256], originals[start : start + 256]
        found["psnr"].append(psnr(*pair).numpy())
        found["ssim"].append(tf.image.ssim(*pair, max_val=1.0).numpy())
    means = restoration(np.concatenate(found["psnr"]), np.concatenate(found["ssim"]), None)
    return {name: means[name] for name in ("psnr_db", "ssim")}
