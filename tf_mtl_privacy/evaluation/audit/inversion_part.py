"""The part of an audit of a run that restores pictures from features."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tf_mtl_privacy.evaluation.audit.parts import Audited
from tf_mtl_privacy.progress import Progress

if TYPE_CHECKING:
    from tf_mtl_privacy.data.dataset import Dataset
    from tf_mtl_privacy.models.bundle import Bundle

# An attacker of features draws faces of its own; nothing else does from this stream.
_INVERSION_STREAM = "inversion"


def inversion_part(audited: Audited) -> dict[str, Any] | None:
    """An attacker's decoder, trained on pictures that nobody else uses.

    `attacker_people` says whose they are: "other" people than on the attacked ones, the "same"
    people, or "unknown".
    """

    from tf_mtl_privacy.evaluation.inversion import SETTINGS, epochs, invert
    from tf_mtl_privacy.evaluation.probes.saved import networks
    from tf_mtl_privacy.evaluation.probes.targets import most_draws, seen_by
    from tf_mtl_privacy.models.layers import layer_seed

    dataset, effort = audited.dataset, SETTINGS[audited.setting]
    test = dataset.rows["test"][: effort.tests]
    if not len(test):
        audited.leave_out("inversion", "there are no test rows to restore")
        return None
    images, people = _attacker_pictures(audited, test, effort.rows)
    if len(images) < 2:
        audited.leave_out("inversion", "the data has no validation rows of other people")
        return None
    first, *others = networks(audited.run).items()
    if others:
        audited.leave_out(
            "inversion of " + ", ".join(task for task, _ in others),
            f"of the encoders, one for each task, only that of {first[0]} is inverted",
        )
    bundle = first[1]
    see = seen_by(most_draws(bundle.encoder)[1], images)
    targets = dataset.store.images(test)
    with Progress(2 + epochs(audited.setting), "inversion", "epochs") as bar:
        features = see(images), see(targets)
        bar.update(2)
        found = invert(
            features[0],
            images,
            features[1],
            targets,
            person=None if dataset.person is None else dataset.person[test],
            restored=_restored(bundle, features),
            setting=audited.setting,
            seed=layer_seed(audited.run.config.train.seed, "audit/inversion"),
            done=bar.update,
        )
    return {**found, "attacker_people": people}


def _restored(bundle: Bundle, features: tuple[Any, Any]) -> tuple[Any, Any] | None:
    """What the released restorer makes of both; None where none is released."""
    from tf_mtl_privacy.evaluation.probes.targets import seen_by

    restorer = bundle.restorer
    if restorer is None:
        return None
    see = seen_by(lambda rows: restorer(rows, training=False), features[0])
    return see(features[0]), see(features[1])


def _attacker_pictures(audited: Audited, test: Any, most: int) -> tuple[Any, str]:
    """(`[n, S, S, 3]` uint8 pictures for the attacker, n <= `most`; whose they are)."""
    import numpy as np

    from tf_mtl_privacy.data.sources.synthetic import fresh_faces

    dataset = audited.dataset
    if audited.data.dataset == "synthetic_faces":
        read, _ = fresh_faces(audited.data, _INVERSION_STREAM, most)
        # With identities all streams draw the same people; without, every face is somebody new.
        return read(np.arange(most)), "other" if dataset.person is None else "same"
    rows = _others(dataset, test)[:most]
    images = dataset.store.images(rows)
    if dataset.person is None or (dataset.person[np.concatenate([rows, test])] < 0).any():
        return images, "unknown"
    return images, "other"


def _others(dataset: Dataset, test: Any) -> Any:
    """Validation rows of people who are on no test row; all where it is not known who is who."""
    import numpy as np

    rows = dataset.rows["validation"]
    if dataset.person is None:
        return rows
    return rows[~np.isin(dataset.person[rows], dataset.person[test])]
