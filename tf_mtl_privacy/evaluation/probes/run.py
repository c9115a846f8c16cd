"""Fresh attackers on every target of one run (DESIGN: leakage is what a fresh attacker finds)."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.attack import Reading, attack
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.power import planted
from tf_mtl_privacy.evaluation.probes.rows import AttackRows
from tf_mtl_privacy.evaluation.probes.settings import Setting
from tf_mtl_privacy.evaluation.probes.summary import (
    OWN,
    UNSEEN,
    not_measured,
    probe_summary,
    target_summary,
)
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.progress import Progress


def probe_networks(
    bundles: Mapping[str, Bundle],
    untrained: keras.Model,
    unseen: AttackRows | str,
    own: AttackRows | str,
    classes: int,
    setting: Setting,
    seed: int,
    removal_off: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """`privacy.probe` of results.json.

    Args:
        bundles: the run's networks; one under an empty name, or one for each single task.
        untrained: an encoder of the same shape that was never trained.
        unseen: rows that no encoder was trained on, or why there are none.
        own: rows that the encoder was trained on, or why they are not attacked.
        classes: of the private label, K.
        setting: how hard attackers try.
        seed: of all their random starts.
        removal_off: the strongest on features of the run with removal off, or None.
    """
    start = time.monotonic()
    rows, trained_on = (own, OWN) if isinstance(unseen, str) else (unseen, UNSEEN)
    if isinstance(rows, str):
        everything = ("features", "restored", "pixels", "untrained", "logits", "planted")
        missing = {name: not_measured(rows) for name in everything}
        missing["features"]["own"] = not_measured(rows)
        return probe_summary(setting.name, missing, removal_off, 0.0)
    with Progress(_count(bundles, setting), "fresh attackers", "attackers") as progress:
        probe = _Probe(bundles, rows, trained_on, classes, setting, seed, progress)
        found = {
            "features": probe.features() | {"own": probe.own(own)},
            "restored": probe.restored(),
            "pixels": probe.of("pixels", targets.pixels, setting.pixels, setting.image_rows),
            "untrained": probe.of("untrained", targets.features(untrained), setting.untrained),
            "logits": probe.logits(),
            "planted": probe.planted(),
        }
    return probe_summary(setting.name, found, removal_off, time.monotonic() - start)


def _count(bundles: Mapping[str, Bundle], setting: Setting) -> int:
    each = len(setting.features) + len(setting.own) + len(setting.logits)
    once = setting.images + setting.pixels + setting.untrained + setting.planted
    return each * len(bundles) + len(once)


@dataclasses.dataclass(frozen=True)
class _Probe:
    """One run's targets; arguments as those of `probe_networks`."""

    bundles: Mapping[str, Bundle]
    rows: AttackRows
    trained_on: str
    classes: int
    setting: Setting
    seed: int
    progress: Progress

    def features(self) -> dict[str, Any]:
        """The strongest over all encoders."""
        return self._features(self.rows, self.setting.features, self.trained_on)

    def own(self, own: AttackRows | str) -> dict[str, Any]:
        """Features, by attackers who learn from the encoder's own training rows."""
        if not self.setting.own:
            return not_measured("only --probe=thorough learns from the encoder's own rows")
        if isinstance(own, str):
            return not_measured(own)
        if self.trained_on == OWN:
            return not_measured("the figures beside this are from the encoder's own rows")
        return self._features(own, self.setting.own, OWN)

    def restored(self) -> dict[str, Any]:
        bundle = self._first
        if bundle.restorer is None:
            return not_measured("the model has no restorer")
        view = targets.restored(bundle.encoder, bundle.restorer)
        return self.of("restored", view, self.setting.images, self.setting.image_rows)

    def logits(self) -> dict[str, Any]:
        readings = []
        for name, bundle in self.bundles.items():
            view = targets.logits(bundle.encoder, bundle.business)
            readings += self._attack(f"logits/{name}", view, self.rows, self.setting.logits, name)
        return target_summary(readings, self.trained_on, len(self.rows.train.labels))

    def planted(self) -> dict[str, Any]:
        """A leak of our own in the features of the first encoder."""
        view = targets.features(self._first.encoder)
        seed = layer_seed(self.seed, "probe/planted")
        data = planted(targets.seen_through(view, self.rows, self.classes), seed)
        readings = attack(
            data, self.setting.planted, attackers(), self.setting, seed, self._progressed
        )
        return target_summary(readings, self.trained_on, len(data.train))

    def of(
        self, target: str, view: targets.View, names: Sequence[str], most: int | None = None
    ) -> dict[str, Any]:
        """A target that does not depend on the discriminator."""
        readings = self._attack(target, view, self.rows, names, most=most)
        count = len(self.rows.train.labels[:most])
        return target_summary(readings, self.trained_on, count)

    @property
    def _first(self) -> Bundle:
        return next(iter(self.bundles.values()))

    def _features(self, rows: AttackRows, names: Sequence[str], trained_on: str) -> dict[str, Any]:
        readings = []
        for name, bundle in self.bundles.items():
            view = targets.features(bundle.encoder)
            target = f"features/{trained_on}/{name}"
            readings += self._attack(target, view, rows, names, name, bundle.discriminator)
        return target_summary(readings, trained_on, len(rows.train.labels))

    def _attack(
        self,
        target: str,
        view: targets.View,
        rows: AttackRows,
        names: Sequence[str],
        network: str = "",
        discriminator: keras.Model | None = None,
        most: int | None = None,
    ) -> list[Reading]:
        data = targets.seen_through(view, rows, self.classes, most)
        if discriminator is not None and discriminator.output_shape[-1] != self.classes:
            discriminator = None
        known = attackers(discriminator)
        seed = layer_seed(self.seed, f"probe/{target}")
        found = attack(data, names, known, self.setting, seed, self._progressed)
        prefix = f"{network}/" if network else ""
        return [dataclasses.replace(reading, name=prefix + reading.name) for reading in found]

    def _progressed(self, name: str) -> None:
        self.progress.update(1, name)
