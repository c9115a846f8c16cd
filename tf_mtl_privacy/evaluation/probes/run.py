"""Fresh attackers on every target of one run: leakage is what a fresh attacker finds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.attack import Reading, Remember, attack, forget
from tf_mtl_privacy.evaluation.probes.data import ProbeData
from tf_mtl_privacy.evaluation.probes.families import attackers
from tf_mtl_privacy.evaluation.probes.power import planted
from tf_mtl_privacy.evaluation.probes.rows import AttackRows
from tf_mtl_privacy.evaluation.probes.settings import Setting
from tf_mtl_privacy.evaluation.probes.stochastic import feature_views, most_draws
from tf_mtl_privacy.evaluation.probes.summary import OWN, UNSEEN, not_measured, target_summary
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.models.mask import is_masked

TARGETS = (
    "features",
    "restored",
    "pixels",
    "untrained",
    "logits",
    "regions",
    "features_and_regions",
    "one_draw",
    "noiseless",
    "planted",
)
_WITH_NOISE = ("one_draw", "noiseless")
_NO_MASK, _NO_NOISE = "the encoder covers nothing", "the encoder adds no noise"
# Of validation rows: an attacker that reads so much of a reference has shown its power.
_SHOWN = 0.98
_THOROUGH = "only --probe=thorough measures it"


def probe_networks(
    bundles: Mapping[str, Bundle],
    untrained: keras.Model,
    unseen: AttackRows | str,
    own: AttackRows | str,
    classes: int,
    setting: Setting,
    seed: int,
    done: Callable[[str], None] = lambda name: None,
    remember: Remember = forget,
) -> dict[str, Any]:
    """The targets of `privacy.probe` of results.json, by name.

    Args:
        bundles: the run's networks; one under an empty name, or one for each single task.
        untrained: an encoder of the same shape that was never trained.
        unseen: rows that no encoder was trained on, or why there are none.
        own: rows that the encoder was trained on, or why they are not attacked.
        classes: of the private label, K.
        setting: how hard attackers try.
        seed: of all their random starts.
        done: called with a name whenever an attacker has finished, `count_attackers` times.
        remember: makes an attempt or finds it made; asked with target, network, attacker and the
            number of its start.
    """
    rows, trained_on = (own, OWN) if isinstance(unseen, str) else (unseen, UNSEEN)
    if isinstance(rows, str):
        missing = {name: not_measured(rows) for name in TARGETS}
        missing["features"]["own"] = not_measured(rows)
        return missing
    probe = _Probe(bundles, rows, trained_on, classes, setting, seed, done, remember)
    found = probe.of_networks(own)
    found["pixels"] = probe.reference("pixels", targets.pixels, setting.pixels)
    view = targets.features(untrained)
    found["untrained"] = probe.reference("untrained", view, setting.untrained)
    return {name: found[name] for name in TARGETS}


def count_attackers(bundles: Mapping[str, Bundle], setting: Setting) -> int:
    """About how many there are: some cannot read what is there, which is seen only later."""
    first = next(iter(bundles.values()))
    count = len(bundles) * (len(setting.features) + len(setting.own) + len(setting.logits))
    count += len(setting.images + setting.pixels + setting.untrained + setting.planted)
    if is_masked(first.encoder):
        count += len(setting.regions + setting.with_regions)
    if len(feature_views(first.encoder)) > 1:
        count += len(_WITH_NOISE) * len(setting.noise)
    return count


@dataclasses.dataclass(frozen=True)
class _Probe:
    """One run's targets; arguments as those of `probe_networks`."""

    bundles: Mapping[str, Bundle]
    rows: AttackRows
    trained_on: str
    classes: int
    setting: Setting
    seed: int
    done: Callable[[str], None]
    remember: Remember

    def of_networks(self, own: AttackRows | str) -> dict[str, Any]:
        """All targets that come from the run's networks, each encoder's features made once."""
        features, logits = [], []
        first: dict[str, Any] = {}
        for name, bundle in self.bundles.items():
            data = self._seen(most_draws(bundle.encoder)[1], self.rows)
            features += self._features(data, self.trained_on, self.setting.features, name, bundle)
            of_head = targets.passed_on(targets.logits(bundle.business), data)
            logits += self._attack(f"logits/{name}", of_head, self.setting.logits, name)
            first = first or self._of_first(data, bundle)
        draws, count = most_draws(self._first.encoder)[0], len(self.rows.train.labels)
        found = {
            "features": self._summary(features, count) | {"draws": draws, "own": self._own(own)},
            "logits": self._summary(logits, count),
        }
        return found | first | self._other_noise()

    def reference(self, target: str, view: targets.View, names: Sequence[str]) -> dict[str, Any]:
        """A target that is not about the run's networks, on fewer rows."""
        most, tests = self.setting.reference_rows, self.setting.reference_tests
        data = targets.seen_through(view, self.rows, self.classes, most, tests)
        return self._one(target, data, names, enough=_SHOWN)

    @property
    def _first(self) -> Bundle:
        return next(iter(self.bundles.values()))

    def _of_first(self, data: ProbeData, bundle: Bundle) -> dict[str, Any]:
        """What only the first network is attacked by: pictures, mask, a leak of our own."""
        setting, seed = self.setting, layer_seed(self.seed, "probe/planted")
        fewer = targets.fewer(data, setting.reference_rows, setting.reference_tests)
        leaked = planted(fewer, seed, setting.planted_rows)
        found = {"planted": self._one("planted", leaked, setting.planted)}
        found["restored"] = not_measured("the model has no restorer")
        if bundle.restorer is not None:
            view = targets.restored(bundle.restorer)
            images = targets.passed_on(view, data, setting.image_rows)
            found["restored"] = self._one("restored", images, setting.images)
        return found | self._regions(data, bundle.encoder)

    def _regions(self, data: ProbeData, encoder: keras.Model) -> dict[str, Any]:
        """The mask: its shape alone can say the label."""
        both = "features_and_regions"
        if not is_masked(encoder):
            return {"regions": not_measured(_NO_MASK), both: not_measured(_NO_MASK)}
        covered = self._seen(targets.regions(encoder), self.rows)
        alone = targets.fewer(covered, self.setting.region_rows, len(covered.test))
        found = {"regions": self._one("regions", alone, self.setting.regions)}
        found[both] = not_measured(_THOROUGH)
        if self.setting.with_regions:
            together = targets.with_regions(data, covered)
            found[both] = self._one(both, together, self.setting.with_regions)
        return found

    def _other_noise(self) -> dict[str, Any]:
        """Features with other noise than `features` has, where the encoder adds any."""
        views = feature_views(self._first.encoder)
        if len(views) == 1 or not self.setting.noise:
            reason = _NO_NOISE if len(views) == 1 else _THOROUGH
            return {name: not_measured(reason) for name in _WITH_NOISE}
        return {
            name: self._one(name, self._seen(views[name], self.rows), self.setting.noise)
            for name in _WITH_NOISE
        }

    def _own(self, own: AttackRows | str) -> dict[str, Any]:
        """Features, by attackers who learn from the encoder's own training rows."""
        if not self.setting.own:
            return not_measured("only --probe=thorough learns from the encoder's own rows")
        if isinstance(own, str):
            return not_measured(own)
        if self.trained_on == OWN:
            return not_measured("the figures beside this are from the encoder's own rows")
        readings = []
        for name, bundle in self.bundles.items():
            data = self._seen(most_draws(bundle.encoder)[1], own)
            readings += self._features(data, OWN, self.setting.own, name, bundle)
        return target_summary(readings, OWN, len(own.train.labels))

    def _features(
        self, data: ProbeData, trained_on: str, names: Sequence[str], name: str, bundle: Bundle
    ) -> list[Reading]:
        target = f"features/{trained_on}/{name}"
        return self._attack(target, data, names, name, bundle.discriminator)

    def _seen(self, view: targets.View, rows: AttackRows) -> ProbeData:
        return targets.seen_through(view, rows, self.classes)

    def _one(
        self, target: str, data: ProbeData, names: Sequence[str], enough: float = math.inf
    ) -> dict[str, Any]:
        """A target of one network, or of none."""
        return self._summary(self._attack(target, data, names, enough=enough), len(data.train))

    def _attack(
        self,
        target: str,
        data: ProbeData,
        names: Sequence[str],
        network: str = "",
        discriminator: keras.Model | None = None,
        enough: float = math.inf,
    ) -> list[Reading]:
        if discriminator is not None and discriminator.output_shape[-1] != self.classes:
            discriminator = None
        known = attackers(discriminator)
        seed = layer_seed(self.seed, f"probe/{target}")

        def remember(start: str, make: Callable[[], Reading]) -> Reading:
            return self.remember(f"{target}/{start}", make)

        found = attack(data, names, known, self.setting, seed, self.done, enough, remember)
        prefix = f"{network}/" if network else ""
        return [dataclasses.replace(reading, name=prefix + reading.name) for reading in found]

    def _summary(self, readings: Sequence[Reading], rows: int) -> dict[str, Any]:
        return target_summary(readings, self.trained_on, rows)
