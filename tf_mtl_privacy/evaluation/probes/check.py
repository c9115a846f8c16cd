"""A few quick attackers on validation rows, for two bounds of the stop rule."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.evaluation.membership.quick_check import success_rate
from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.attack import attack, strongest
from tf_mtl_privacy.evaluation.probes.budget import FAST, Setting
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.probe_cache import keep_check, weights_digest
from tf_mtl_privacy.evaluation.probes.rows import AttackRows, own_rows, unseen_rows
from tf_mtl_privacy.evaluation.probes.summary import OWN, UNSEEN
from tf_mtl_privacy.evaluation.probes.targets import most_draws
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed

Check = Callable[[Bundle, Dataset], dict[str, float]]
# The first reads a small detail anywhere, the second who somebody is from few rows.
_ATTACKERS = ("soft_whitened", "logistic_whitened")
CHECK = dataclasses.replace(FAST, name="check", rows=8_000, steps=20, width=16, features=_ATTACKERS)
_HELD_OUT_SHARE = 8


def fresh_check(config: Config, setting: Setting = CHECK, folder: Path | None = None) -> Check:
    """Returns a function of networks and data that gives what the stop rule reads of attackers.

    `fresh_probe_balanced_accuracy` and `fresh_probe_upper`, the upper end of its 95 % interval:
    attackers are trained anew at each call on the features as they are then, on rows that the
    encoder never saw where faces are generated, else on its training rows. The strongest is chosen
    on rows held out of these and scored on the run's validation rows. Neither is given where no row
    has a private label.

    `membership_success_rate`, see `membership_check.success_rate`: it reads training rows as they
    are, so it is not given with `--dp_scope=all`, where whatever chooses a released weight must
    have noise.

    Args:
        config: the run's configuration.
        setting: how hard the attackers try.
        folder: the folder `audit` of the run. Each attacker's name, rows and figures are added to
            `checks.json` there under the digest of the checked weights (`kept.keep_check`), so that
            `kept.strongest_kept` finds what the check of the final weights read. None for no file.
    """
    kept: list[AttackRows | None] = []

    def check(bundle: Bundle, dataset: Dataset) -> dict[str, float]:
        if not kept:
            kept.append(_rows(config, dataset, setting))
        found = {} if kept[0] is None else read_features(bundle, dataset, kept[0])
        if config.privacy.dp_scope != "all":
            rate = success_rate(bundle, dataset, config.train.seed)
            found |= {} if rate is None else {"membership_success_rate": rate}
        return found

    def read_features(bundle: Bundle, dataset: Dataset, rows: AttackRows) -> dict[str, float]:
        view, seed = most_draws(bundle.encoder)[1], layer_seed(config.train.seed, "probe/check")
        data = targets.seen_through(view, rows, len(dataset.private_classes))
        readings = attack(data, setting.features, attackers(), setting, seed)
        if folder is not None:
            place = f"features/{_trained_on(config, dataset)}/"
            named = {f"{place}/{reading.name}/0": reading for reading in readings}
            keep_check(folder, weights_digest({"": bundle}), named)
        best = strongest(readings).test
        return {
            "fresh_probe_balanced_accuracy": float(best["balanced_accuracy"]),
            "fresh_probe_upper": float(best["balanced_ci95"][1]),
        }

    return check


def _trained_on(config: Config, dataset: Dataset) -> str:
    """Unseen rows where faces are drawn; of data that was handed over only its rows are known."""
    return UNSEEN if config.data.dataset == dataset.name == "synthetic_faces" else OWN


def _rows(config: Config, dataset: Dataset, setting: Setting) -> AttackRows | None:
    validation, seed = dataset.rows["validation"], layer_seed(config.train.seed, "probe/check/rows")
    if not (dataset.labels_of(validation).private >= 0).any():
        return None
    if _trained_on(config, dataset) == UNSEEN:
        found = unseen_rows(dataset, config.data, validation, setting, seed)
        return None if isinstance(found, str) else found
    train = np.random.default_rng(seed).permutation(dataset.rows["train"])
    count = max(len(train) // _HELD_OUT_SHARE, 1)
    split = {"train": np.sort(train[count:]), "validation": np.sort(train[:count])}
    found = own_rows(
        dataclasses.replace(dataset, rows=split), validation, setting, layer_seed(seed, "own")
    )
    return None if isinstance(found, str) else found
