"""Fresh attackers on every target of one run's networks."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import keras

from tf_mtl_privacy.evaluation.probes import targets
from tf_mtl_privacy.evaluation.probes.attack import Reading, Remember, attack, forget, strongest
from tf_mtl_privacy.evaluation.probes.bounds import TARGETS
from tf_mtl_privacy.evaluation.probes.budget import ProbeBudget
from tf_mtl_privacy.evaluation.probes.data import AttackRows, ProbeData
from tf_mtl_privacy.evaluation.probes.families import attackers, starts_at_random
from tf_mtl_privacy.evaluation.probes.summary import (
    KINDS,
    OWN,
    SHARES,
    UNSEEN,
    Curve,
    KindReadings,
    UpdatesCurve,
    joined_summary,
    learning_curve,
    no_curve,
    no_patience,
    not_measured,
    patience,
    planted,
)
from tf_mtl_privacy.evaluation.probes.targets import feature_views, most_draws
from tf_mtl_privacy.evaluation.schema import ByRows, Target
from tf_mtl_privacy.models.bundle import Bundle
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.removal.mask import is_masked

_WITH_NOISE = ("one_draw", "noiseless")
_NO_MASK, _NO_NOISE = "the encoder covers nothing", "the encoder adds no noise"
_NOTHING_COVERED = "the encoder covers nothing: the figure of `pixels` bounds all other targets"
# Balanced accuracy on validation rows at which an attacker of a reference has shown its power.
_POWER_SHOWN = 0.95
# Balanced accuracy from which more updates could add next to nothing.
_NEARLY_ALL = 0.95
_THOROUGH = "only --probe=thorough measures it"
_LARGER = "this setting learns from the kind of rows of which there are more"


def probe_networks(
    bundles: Mapping[str, Bundle],
    untrained: keras.Model,
    unseen: AttackRows | str,
    own: AttackRows | str,
    classes: int,
    budget: ProbeBudget,
    seed: int,
    done: Callable[[str], None] = lambda name: None,
    remember: Remember = forget,
) -> dict[str, Target]:
    """Returns the targets of `privacy.probe` of results.json, by name.

    Args:
        bundles: the run's networks; one under an empty name, or one for each single task.
        untrained: an encoder of the same shape that was never trained.
        unseen: rows that no encoder was trained on, or the reason why there are none.
        own: rows that the encoder was trained on, or the reason why they are not used. Both kinds
            have the same test rows.
        classes: classes of the private label, K.
        budget: the attackers' budget.
        seed: of all random starts.
        done: called with a name whenever an attacker has finished, about `count_attackers` times.
        remember: makes an attempt or looks it up; called with target, kind of rows, network,
            attacker and the number of its start, separated by slashes.
    """
    given = {UNSEEN: unseen, OWN: own}
    rows = {kind: part for kind, part in given.items() if not isinstance(part, str)}
    missing = {kind: part for kind, part in given.items() if isinstance(part, str)}
    if not rows:
        result = {name: not_measured(missing[OWN]) for name in TARGETS}
        result["features"]["own"] = not_measured(missing[OWN])
        result["features"]["by_rows"] = {kind: not_measured(why) for kind, why in missing.items()}
        return result
    probe = _Probe(bundles, rows, missing, classes, budget, seed, done, remember)
    result = probe.of_networks()
    result["pixels"] = probe.reference("pixels", targets.pixels, budget.pixels, budget.image_rows)
    result["untrained"] = probe.reference(
        "untrained", targets.features(untrained), budget.untrained, budget.rows
    )
    return {name: result[name] for name in TARGETS}


def count_attackers(bundles: Mapping[str, Bundle], budget: ProbeBudget) -> int:
    """Returns about how many attackers there are; some cannot read a target or lack its rows."""
    first = next(iter(bundles.values()))
    again = len(budget.features_again) + len(budget.logits)
    count = len(bundles) * (len(budget.features) + len(budget.logits) + again)
    parts = {"restored": budget.images} if first.restorer is not None else {}
    if is_masked(first.encoder):
        parts |= {"regions": budget.regions, "features_and_regions": budget.with_regions}
        parts |= {"masked_pictures": budget.images}
    for name, who in parts.items():
        count += len(who) * (2 if name in budget.both else 1)
        count += len(SHARES) * (name in budget.curves)
    count += len(SHARES) * ("features" in budget.curves)
    count += 2 * (budget.patience > 1)
    count += len(budget.pixels + budget.untrained + budget.planted)
    if len(feature_views(first.encoder)) > 1:
        count += len(_WITH_NOISE) * len(budget.noise)
    return count


@dataclasses.dataclass(frozen=True)
class _Probe:
    """The targets of one run; attributes as the arguments of `probe_networks`, rows by kind."""

    bundles: Mapping[str, Bundle]
    rows: Mapping[str, AttackRows]
    missing: Mapping[str, str]
    classes: int
    budget: ProbeBudget
    seed: int
    done: Callable[[str], None]
    remember: Remember

    @property
    def main(self) -> str:
        """The kind of which there are more rows; unseen rows where both are equal."""
        return max(self.rows, key=lambda kind: len(self.rows[kind].train.labels))

    def of_networks(self) -> dict[str, Target]:
        """Attacks all targets made by the run's networks; each encoder's features are made once."""
        features: dict[str, list[Reading]] = {kind: [] for kind in self.rows}
        logits: dict[str, list[Reading]] = {kind: [] for kind in self.rows}
        first: dict[str, Target] = {}
        data: dict[str, ProbeData] = {}
        for name, bundle in self.bundles.items():
            data = self._features_of(bundle)
            test = None
            for kind, seen in data.items():
                names = self.budget.features
                if kind != self.main and len(self.rows) > 1:
                    names = self.budget.features_again
                features[kind] += self._attack(
                    f"features/{kind}", seen, names, name, bundle.discriminator
                )
                said = targets.feature_rows(targets.logits(bundle.business), seen, test=test)
                test = said.test
                logits[kind] += self._attack(f"logits/{kind}", said, self.budget.logits, name)
            first = first or self._of_first(data, bundle)
        result = {
            "features": self._with_curves(features, data),
            "logits": self._joined(logits, {k: len(r.train.labels) for k, r in self.rows.items()}),
        }
        result["features"]["draws"] = most_draws(self._first.encoder)[0]
        result["features"]["own"] = self._own(result["features"])
        return result | first | self._other_noise()

    def reference(
        self, target: str, view: targets.View, names: Sequence[str], max_rows: int
    ) -> Target:
        """Attacks a reference target from the main kind of rows."""
        data = targets.picture_rows(view, self.rows[self.main], self.classes, max_rows)
        readings = {
            self.main: self._attack(f"{target}/{self.main}", data, names, enough=_POWER_SHOWN)
        }
        return self._joined(readings, {self.main: len(data.train)})

    @property
    def _first(self) -> Bundle:
        return next(iter(self.bundles.values()))

    def _of_first(self, data: Mapping[str, ProbeData], bundle: Bundle) -> dict[str, Target]:
        """Attacks the targets of the first network only: pictures, mask, a planted leak."""
        leaked = planted(data[self.main], layer_seed(self.seed, "probe/planted"))
        names = self.budget.planted
        readings = {
            self.main: self._attack(f"planted/{self.main}", leaked, names, enough=_POWER_SHOWN)
        }
        result = {"planted": self._joined(readings, {self.main: len(leaked.train)})}
        result["restored"] = not_measured("the model has no restorer")
        if bundle.restorer is not None:
            view = targets.restored(bundle.restorer)
            max_rows, test = self.budget.image_rows, None
            images = {}
            for kind in self._kinds("restored"):
                images[kind] = targets.feature_rows(view, data[kind], max_rows, test)
                test = images[kind].test
            result["restored"] = self._one("restored", images, self.budget.images)
        return result | self._masked(data, bundle.encoder)

    def _masked(self, data: Mapping[str, ProbeData], encoder: keras.Model) -> dict[str, Target]:
        """Attacks the mask, whose shape alone can reveal the label, and the masked pictures."""
        budget, both, pictures = self.budget, "features_and_regions", "masked_pictures"
        if not is_masked(encoder):
            result = {name: not_measured(_NO_MASK) for name in ("regions", both)}
            return {**result, pictures: not_measured(_NOTHING_COVERED)}
        wanted = {*self._kinds("regions"), *(self._kinds(both) if budget.with_regions else ())}
        covered = self._seen(targets.regions(encoder), [k for k in self.rows if k in wanted])
        alone = {
            kind: targets.fewer(covered[kind], budget.region_rows)
            for kind in self._kinds("regions")
        }
        result = {"regions": self._one("regions", alone, budget.regions)}
        result[both] = not_measured(_THOROUGH)
        if budget.with_regions:
            together = {
                kind: targets.with_regions(data[kind], covered[kind]) for kind in self._kinds(both)
            }
            result[both] = self._one(both, together, budget.with_regions)
        del covered, alone
        view = targets.masked_pictures(encoder)
        images = self._seen(view, self._kinds(pictures), budget.image_rows)
        result[pictures] = self._one(pictures, images, budget.images)
        return result

    def _other_noise(self) -> dict[str, Target]:
        """Attacks features with one draw of noise and without noise."""
        views = feature_views(self._first.encoder)
        if len(views) == 1 or not self.budget.noise:
            reason = _NO_NOISE if len(views) == 1 else _THOROUGH
            return {name: not_measured(reason) for name in _WITH_NOISE}
        return {
            name: self._one(name, self._seen(views[name], self._kinds(name)), self.budget.noise)
            for name in _WITH_NOISE
        }

    def _own(self, features: Target) -> ByRows:
        """Returns `features.own`: figures of the attackers trained on the encoder's own rows."""
        if UNSEEN not in self.rows:
            return not_measured("the figures beside this are from the encoder's own rows")
        return cast(ByRows, dict(features["by_rows"][OWN]))

    def _kinds(self, target: str) -> list[str]:
        """Returns the kinds of rows from which a target is attacked with this budget."""
        return list(self.rows) if target in self.budget.both else [self.main]

    def _features_of(self, bundle: Bundle) -> dict[str, ProbeData]:
        return self._seen(most_draws(bundle.encoder)[1], list(self.rows))

    def _seen(
        self, view: targets.View, kinds: Sequence[str], max_rows: int | None = None
    ) -> dict[str, ProbeData]:
        """Returns the view of each kind of rows; the shared test rows are viewed once."""
        result: dict[str, ProbeData] = {}
        test = None
        for kind in kinds:
            result[kind] = targets.picture_rows(view, self.rows[kind], self.classes, max_rows, test)
            test = result[kind].test
        return result

    def _one(self, target: str, data: Mapping[str, ProbeData], names: Sequence[str]) -> Target:
        """Attacks a target of the first network only."""
        readings = {
            kind: self._attack(f"{target}/{kind}", part, names) for kind, part in data.items()
        }
        result = self._joined(readings, {kind: len(part.train) for kind, part in data.items()})
        if target in self.budget.curves:
            kind = result["trained_on"]
            best = strongest(readings[kind])
            curve = self._curve(f"{target}/{kind}", data[kind], best, "", None)
            return cast(Target, {**result, **curve})
        return result

    def _with_curves(
        self, features: dict[str, list[Reading]], last: Mapping[str, ProbeData]
    ) -> Target:
        """Returns `features` with the learning curves of its strongest attackers.

        Args:
            features: kind of rows -> readings; those of attackers trained for longer are added.
            last: features of the run's last encoder, so that they are not made again.
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

        curves: dict[str, object] = {}
        if "features" in self.budget.curves:
            network, _, _ = best.name.rpartition("/")
            bundle = self.bundles[network]
            curves |= self._curve(
                f"features/{kind}", data_of(network), best, network, bundle.discriminator
            )
        if patient is not None:
            network, _, _ = patient.name.rpartition("/")
            longer, curve = self._patience(f"features/{kind}", data_of(network), patient, network)
            features[kind] += longer
            curves |= curve
        else:
            curves |= self._why_not_patient(best)
        return cast(Target, {**self._joined(features, rows), **curves})

    def _patient(self, readings: Sequence[Reading], best: Reading) -> Reading | None:
        """Returns the strongest network, which is trained for longer, or None."""
        networks = [r for r in readings if starts_at_random(r.name.rpartition("/")[2])]
        if self.budget.patience <= 1 or best.validation >= _NEARLY_ALL or not networks:
            return None
        return strongest(networks)

    def _why_not_patient(self, best: Reading) -> UpdatesCurve:
        if self.budget.patience <= 1:
            return no_patience(
                f"--probe={self.budget.name} does not train attackers for longer; "
                "--probe=thorough does"
            )
        if best.validation >= _NEARLY_ALL:
            return no_patience("attackers read nearly everything without more updates")
        return no_patience("no attacker of this setting is trained by updates")

    def _curve(
        self,
        target: str,
        data: ProbeData,
        best: Reading,
        network: str,
        discriminator: keras.Model | None,
    ) -> Curve:
        """Returns the learning curve of one attacker over rows."""
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
    ) -> tuple[list[Reading], UpdatesCurve]:
        """Returns the readings of a network trained for longer, and its curve over updates."""
        name, budget = first.name.rpartition("/")[2], self.budget
        times, readings = [1, budget.patience // 2, budget.patience], [first]
        discriminator = self.bundles[network].discriminator
        for count in times[1:]:
            longer = dataclasses.replace(
                budget,
                epochs=count * budget.epochs,
                dense_epochs=count * budget.dense_epochs,
                min_updates=count * budget.min_updates,
            )
            (reading,) = self._attack(
                target,
                data,
                [name],
                network,
                discriminator,
                part=f"updates-{count}/",
                budget=longer,
            )
            readings.append(dataclasses.replace(reading, name=f"{reading.name}_x{count}"))
        updates = [count * budget.updates(name, len(data.train)) for count in times]
        curve = learning_curve(readings, updates, data.test_labels, "updates")
        return readings[1:], patience(curve, budget.restarts)

    def _attack(
        self,
        target: str,
        data: ProbeData,
        names: Sequence[str],
        network: str = "",
        discriminator: keras.Model | None = None,
        enough: float = math.inf,
        part: str = "",
        budget: ProbeBudget | None = None,
    ) -> list[Reading]:
        if discriminator is not None and discriminator.output_shape[-1] != self.classes:
            discriminator = None
        known = attackers(discriminator)
        place = f"{target}/{network}/{part}"
        seed = layer_seed(self.seed, f"probe/{place}")

        def remember(start: str, make: Callable[[], Reading]) -> Reading:
            return self.remember(f"{place}{start}", make)

        budget = budget or self.budget
        readings = attack(data, names, known, budget, seed, self.done, enough, remember)
        prefix = f"{network}/" if network else ""
        return [dataclasses.replace(reading, name=prefix + reading.name) for reading in readings]

    def _joined(self, readings: Mapping[str, Sequence[Reading]], rows: Mapping[str, int]) -> Target:
        parts = {kind: KindReadings(readings[kind], rows[kind]) for kind in readings}
        missing = {kind: self.missing.get(kind, _LARGER) for kind in KINDS if kind not in parts}
        return joined_summary(parts, missing)
