"""Fresh attackers on every target of one run: leakage is what a fresh attacker finds."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.attack import Reading, Remember, attack, forget, strongest
from tf_mtl_privacy.evaluation.probes.budget import Setting
from tf_mtl_privacy.evaluation.probes.curves import (
    SHARES,
    learning_curve,
    no_curve,
    no_patience,
    patience,
)
from tf_mtl_privacy.evaluation.probes.data import ProbeData
from tf_mtl_privacy.evaluation.probes.families import attackers, starts_at_random
from tf_mtl_privacy.evaluation.probes.rows import AttackRows
from tf_mtl_privacy.evaluation.probes.summary import (
    KINDS,
    OWN,
    UNSEEN,
    KindReadings,
    joined_summary,
    not_measured,
    planted,
)
from tf_mtl_privacy.evaluation.probes.targets import feature_views, most_draws
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.removal.mask import is_masked

TARGETS = (
    "features",
    "restored",
    "pixels",
    "untrained",
    "logits",
    "regions",
    "features_and_regions",
    "masked_pictures",
    "one_draw",
    "noiseless",
    "planted",
)
_WITH_NOISE = ("one_draw", "noiseless")
_NO_MASK, _NO_NOISE = "the encoder covers nothing", "the encoder adds no noise"
_NOTHING_COVERED = "the encoder covers nothing: what `pixels` reads bounds everything behind it"
# Of validation rows: an attacker that reads so much of a reference has shown its power.
_SHOWN = 0.95
# From here on more updates could add next to nothing.
_READ = 0.95
_THOROUGH = "only --probe=thorough measures it"
_LARGER = "this setting learns from the kind of rows of which there are more"


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
    """Returns the targets of `privacy.probe` of results.json, by name.

    Args:
        bundles: the run's networks; one under an empty name, or one for each single task.
        untrained: an encoder of the same shape that was never trained.
        unseen: rows that no encoder was trained on, or the reason why there are none.
        own: rows that the encoder was trained on, or the reason why they are not used. Both kinds
            have the same test rows.
        classes: of the private label, K.
        setting: how hard attackers try.
        seed: of all their random starts.
        done: called with a name whenever an attacker has finished, about `count_attackers` times.
        remember: makes an attempt or looks it up; called with target, kind of rows, network,
            attacker and the number of its start, separated by slashes.
    """
    given = {UNSEEN: unseen, OWN: own}
    rows = {kind: part for kind, part in given.items() if not isinstance(part, str)}
    missing = {kind: part for kind, part in given.items() if isinstance(part, str)}
    if not rows:
        found = {name: not_measured(missing[OWN]) for name in TARGETS}
        found["features"]["own"] = not_measured(missing[OWN])
        found["features"]["by_rows"] = {kind: not_measured(why) for kind, why in missing.items()}
        return found
    probe = _Probe(bundles, rows, missing, classes, setting, seed, done, remember)
    found = probe.of_networks()
    found["pixels"] = probe.reference("pixels", targets.pixels, setting.pixels, setting.image_rows)
    found["untrained"] = probe.reference(
        "untrained", targets.features(untrained), setting.untrained, setting.rows
    )
    return {name: found[name] for name in TARGETS}


def count_attackers(bundles: Mapping[str, Bundle], setting: Setting) -> int:
    """Returns about how many there are; some cannot read a target or lack a kind of rows."""
    first = next(iter(bundles.values()))
    again = len(setting.features_again) + len(setting.logits)
    count = len(bundles) * (len(setting.features) + len(setting.logits) + again)
    parts = {"restored": setting.images} if first.restorer is not None else {}
    if is_masked(first.encoder):
        parts |= {"regions": setting.regions, "features_and_regions": setting.with_regions}
        parts |= {"masked_pictures": setting.images}
    for name, who in parts.items():
        count += len(who) * (2 if name in setting.both else 1)
        count += len(SHARES) * (name in setting.curves)
    count += len(SHARES) * ("features" in setting.curves)
    count += 2 * (setting.patience > 1)
    count += len(setting.pixels + setting.untrained + setting.planted)
    if len(feature_views(first.encoder)) > 1:
        count += len(_WITH_NOISE) * len(setting.noise)
    return count


@dataclasses.dataclass(frozen=True)
class _Probe:
    """One run's targets; arguments as those of `probe_networks`, rows by their kind."""

    bundles: Mapping[str, Bundle]
    rows: Mapping[str, AttackRows]
    missing: Mapping[str, str]
    classes: int
    setting: Setting
    seed: int
    done: Callable[[str], None]
    remember: Remember

    @property
    def main(self) -> str:
        """The kind of rows of which there are more; unseen rows where there are as many."""
        return max(self.rows, key=lambda kind: len(self.rows[kind].train.labels))

    def of_networks(self) -> dict[str, Any]:
        """All targets that come from the run's networks, each encoder's features made once."""
        features: dict[str, list[Reading]] = {kind: [] for kind in self.rows}
        logits: dict[str, list[Reading]] = {kind: [] for kind in self.rows}
        first: dict[str, Any] = {}
        data: dict[str, ProbeData] = {}
        for name, bundle in self.bundles.items():
            data = self._features_of(bundle)
            test = None
            for kind, seen in data.items():
                names = self.setting.features
                if kind != self.main and len(self.rows) > 1:
                    names = self.setting.features_again
                features[kind] += self._attack(
                    f"features/{kind}", seen, names, name, bundle.discriminator
                )
                said = targets.passed_on(targets.logits(bundle.business), seen, test=test)
                test = said.test
                logits[kind] += self._attack(f"logits/{kind}", said, self.setting.logits, name)
            first = first or self._of_first(data, bundle)
        found = {
            "features": self._with_curves(features, data),
            "logits": self._joined(logits, {k: len(r.train.labels) for k, r in self.rows.items()}),
        }
        found["features"]["draws"] = most_draws(self._first.encoder)[0]
        found["features"]["own"] = self._own(found["features"])
        return found | first | self._other_noise()

    def reference(
        self, target: str, view: targets.View, names: Sequence[str], most: int
    ) -> dict[str, Any]:
        """A target that is not about the run's networks, from the main kind of rows."""
        data = targets.seen_through(view, self.rows[self.main], self.classes, most)
        readings = {self.main: self._attack(f"{target}/{self.main}", data, names, enough=_SHOWN)}
        return self._joined(readings, {self.main: len(data.train)})

    @property
    def _first(self) -> Bundle:
        return next(iter(self.bundles.values()))

    def _of_first(self, data: Mapping[str, ProbeData], bundle: Bundle) -> dict[str, Any]:
        """Targets of the first network only: pictures, mask, a leak of our own."""
        leaked = planted(data[self.main], layer_seed(self.seed, "probe/planted"))
        names = self.setting.planted
        readings = {self.main: self._attack(f"planted/{self.main}", leaked, names, enough=_SHOWN)}
        found = {"planted": self._joined(readings, {self.main: len(leaked.train)})}
        found["restored"] = not_measured("the model has no restorer")
        if bundle.restorer is not None:
            view = targets.restored(bundle.restorer)
            most, test = self.setting.image_rows, None
            images = {}
            for kind in self._kinds("restored"):
                images[kind] = targets.passed_on(view, data[kind], most, test)
                test = images[kind].test
            found["restored"] = self._one("restored", images, self.setting.images)
        return found | self._masked(data, bundle.encoder)

    def _masked(self, data: Mapping[str, ProbeData], encoder: keras.Model) -> dict[str, Any]:
        """The mask, whose shape alone can say the label, and what it leaves of pictures."""
        setting, both, pictures = self.setting, "features_and_regions", "masked_pictures"
        if not is_masked(encoder):
            found = {name: not_measured(_NO_MASK) for name in ("regions", both)}
            return {**found, pictures: not_measured(_NOTHING_COVERED)}
        wanted = {*self._kinds("regions"), *(self._kinds(both) if setting.with_regions else ())}
        covered = self._seen(targets.regions(encoder), [k for k in self.rows if k in wanted])
        alone = {
            kind: targets.fewer(covered[kind], setting.region_rows)
            for kind in self._kinds("regions")
        }
        found = {"regions": self._one("regions", alone, setting.regions)}
        found[both] = not_measured(_THOROUGH)
        if setting.with_regions:
            together = {
                kind: targets.with_regions(data[kind], covered[kind]) for kind in self._kinds(both)
            }
            found[both] = self._one(both, together, setting.with_regions)
        del covered, alone
        view = targets.masked_pictures(encoder)
        images = self._seen(view, self._kinds(pictures), setting.image_rows)
        found[pictures] = self._one(pictures, images, setting.images)
        return found

    def _other_noise(self) -> dict[str, Any]:
        """Features with other noise than `features` has, where the encoder adds any."""
        views = feature_views(self._first.encoder)
        if len(views) == 1 or not self.setting.noise:
            reason = _NO_NOISE if len(views) == 1 else _THOROUGH
            return {name: not_measured(reason) for name in _WITH_NOISE}
        return {
            name: self._one(name, self._seen(views[name], self._kinds(name)), self.setting.noise)
            for name in _WITH_NOISE
        }

    def _own(self, features: Mapping[str, Any]) -> dict[str, Any]:
        """`features.own`: the part of attackers who learned from the encoder's own rows."""
        if UNSEEN not in self.rows:
            return not_measured("the figures beside this are from the encoder's own rows")
        return dict(features["by_rows"][OWN])

    def _kinds(self, target: str) -> list[str]:
        """The kinds of rows that attackers of a target learn from in this setting."""
        return list(self.rows) if target in self.setting.both else [self.main]

    def _features_of(self, bundle: Bundle) -> dict[str, ProbeData]:
        return self._seen(most_draws(bundle.encoder)[1], list(self.rows))

    def _seen(
        self, view: targets.View, kinds: Sequence[str], most: int | None = None
    ) -> dict[str, ProbeData]:
        """The view of each kind of rows; test rows are the same ones and looked at once."""
        found: dict[str, ProbeData] = {}
        test = None
        for kind in kinds:
            found[kind] = targets.seen_through(view, self.rows[kind], self.classes, most, test)
            test = found[kind].test
        return found

    def _one(
        self, target: str, data: Mapping[str, ProbeData], names: Sequence[str]
    ) -> dict[str, Any]:
        """A target of the first network only."""
        readings = {
            kind: self._attack(f"{target}/{kind}", part, names) for kind, part in data.items()
        }
        found = self._joined(readings, {kind: len(part.train) for kind, part in data.items()})
        if target in self.setting.curves:
            kind = found["trained_on"]
            best = strongest(readings[kind])
            found |= self._curve(f"{target}/{kind}", data[kind], best, "", None)
        return found

    def _with_curves(
        self, features: dict[str, list[Reading]], last: Mapping[str, ProbeData]
    ) -> dict[str, Any]:
        """`features`, with learning curves of the attackers that read most.

        Args:
            features: kind of rows -> readings; those of patient attackers are added.
            last: features of the last of the run's encoders, so that they are not made again.
        """
        rows = {kind: len(part.train.labels) for kind, part in self.rows.items()}
        kind = self._joined(features, rows)["trained_on"]
        best = strongest(features[kind])
        patient = self._patient(features[kind], best)
        made = {list(self.bundles)[-1]: last[kind]}

        def data_of(network: str) -> ProbeData:
            if network not in made:
                made.clear()
                view = most_draws(self.bundles[network].encoder)[1]
                made[network] = self._seen(view, [kind])[kind]
            return made[network]

        curve: dict[str, Any] = {}
        if "features" in self.setting.curves:
            network, _, _ = best.name.rpartition("/")
            bundle = self.bundles[network]
            curve |= self._curve(
                f"features/{kind}", data_of(network), best, network, bundle.discriminator
            )
        if patient is not None:
            network, _, _ = patient.name.rpartition("/")
            longer, found = self._patience(f"features/{kind}", data_of(network), patient, network)
            features[kind] += longer
            curve |= found
        return self._joined(features, rows) | curve | self._why_not_patient(best, patient)

    def _patient(self, readings: Sequence[Reading], best: Reading) -> Reading | None:
        """The network to be trained for longer: of those there are the strongest, or none."""
        networks = [r for r in readings if starts_at_random(r.name.rpartition("/")[2])]
        if self.setting.patience <= 1 or best.validation >= _READ or not networks:
            return None
        return strongest(networks)

    def _why_not_patient(self, best: Reading, patient: Reading | None) -> dict[str, Any]:
        if patient is not None:
            return {}
        if self.setting.patience <= 1:
            return no_patience(
                f"--probe={self.setting.name} does not train attackers for longer; "
                "--probe=thorough does"
            )
        if best.validation >= _READ:
            return no_patience("attackers read nearly everything without more updates")
        return no_patience("no attacker of this setting is trained by updates")

    def _curve(
        self,
        target: str,
        data: ProbeData,
        best: Reading,
        network: str,
        discriminator: keras.Model | None,
    ) -> dict[str, Any]:
        """The learning curve of one attacker over rows."""
        name, whole = best.name.rpartition("/")[2], len(data.train)
        sizes = [whole // share for share in SHARES]
        if min(sizes) < data.classes:
            return no_curve(f"{whole} rows are too few")
        readings = [
            self._attack(
                target,
                targets.fewer(data, size),
                [name],
                network,
                discriminator,
                part=f"rows-{size}/",
            )[0]
            for size in sizes
        ]
        return learning_curve([*readings, best], [*sizes, whole], data.test_labels)

    def _patience(
        self, target: str, data: ProbeData, first: Reading, network: str
    ) -> tuple[list[Reading], dict[str, Any]]:
        """(readings of a network that was trained for longer, its curve over updates)."""
        name, setting = first.name.rpartition("/")[2], self.setting
        times, readings = [1, setting.patience // 2, setting.patience], [first]
        discriminator = self.bundles[network].discriminator
        for count in times[1:]:
            effort = dataclasses.replace(
                setting,
                epochs=count * setting.epochs,
                dense_epochs=count * setting.dense_epochs,
                least_updates=count * setting.least_updates,
            )
            (longer,) = self._attack(
                target,
                data,
                [name],
                network,
                discriminator,
                part=f"updates-{count}/",
                setting=effort,
            )
            readings.append(dataclasses.replace(longer, name=f"{longer.name}_x{count}"))
        updates = [count * setting.updates(name, len(data.train)) for count in times]
        curve = learning_curve(readings, updates, data.test_labels, "updates")
        return readings[1:], patience(curve, setting.restarts)

    def _attack(
        self,
        target: str,
        data: ProbeData,
        names: Sequence[str],
        network: str = "",
        discriminator: keras.Model | None = None,
        enough: float = math.inf,
        part: str = "",
        setting: Setting | None = None,
    ) -> list[Reading]:
        if discriminator is not None and discriminator.output_shape[-1] != self.classes:
            discriminator = None
        known = attackers(discriminator)
        place = f"{target}/{network}/{part}"
        seed = layer_seed(self.seed, f"probe/{place}")

        def remember(start: str, make: Callable[[], Reading]) -> Reading:
            return self.remember(f"{place}{start}", make)

        effort = setting or self.setting
        found = attack(data, names, known, effort, seed, self.done, enough, remember)
        prefix = f"{network}/" if network else ""
        return [dataclasses.replace(reading, name=prefix + reading.name) for reading in found]

    def _joined(
        self, readings: Mapping[str, Sequence[Reading]], rows: Mapping[str, int]
    ) -> dict[str, Any]:
        found = {kind: KindReadings(readings[kind], rows[kind]) for kind in readings}
        missing = {kind: self.missing.get(kind, _LARGER) for kind in KINDS if kind not in found}
        return joined_summary(found, missing)
