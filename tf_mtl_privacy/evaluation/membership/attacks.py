"""The attacks on each target that need nothing but what is given away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tf_mtl_privacy.evaluation.membership.learned import learned_scores
from tf_mtl_privacy.evaluation.membership.outputs import Outputs
from tf_mtl_privacy.evaluation.membership.scores import (
    THRESHOLDS,
    filled,
    over_tasks,
    scaled_logits,
)
from tf_mtl_privacy.evaluation.membership.selection import Split

Array = np.ndarray[Any, Any]
TARGETS = ("business", "features", "release")
# Which of `Outputs.further` can be had from features alone, given a restorer to go back through.
_OF_FEATURES = ("reencoding_distance",)
_OF_RELEASE = ("restoration_error", "discriminator_loss")


def attack_scores(
    outputs: Outputs,
    split: Split,
    learners: Sequence[str],
    seed: int,
    done: Callable[[str], None] = lambda name: None,
) -> dict[tuple[str, str], Array]:
    """(target, attack) -> `[N]` scores, larger means member; NaN for a row that it cannot attack.

    - business: the thresholds of `scores.py`, summed over tasks, and learners on logits and these.
    - features: the distance to the features of what is restored from them, and learners, who ask
      the released classifier about them and so read all of `business`, too.
    - release: restoration error and discriminator, and learners on all of it together.

    Attacks on `business` are attacks on the others as well, and are not repeated there.

    Args:
        outputs: of members, then non-members.
        split: who is who, and which half learners learn from.
        learners: names of `learned.LEARNERS`.
        seed: of the learners.
        done: called with a name when an attack has finished, `count_attacks` times.
    """
    found: dict[tuple[str, str], Array] = {}
    for name, score in THRESHOLDS.items():
        found["business", name] = over_tasks(score, outputs.logits, outputs.labels)
    for target, names in (("features", _OF_FEATURES), ("release", _OF_RELEASE)):
        for name in names:
            if name in outputs.further:
                found[target, name] = outputs.further[name].astype(np.float64)
    for target, read in _learned_from(outputs).items():
        for learner in learners:
            if read.given:
                rows = np.concatenate([read.kept, read.pressed], axis=1)
                found[target, learner] = learned_scores(
                    learner, rows, split, seed, pressed=read.pressed.shape[1]
                )
            done(f"{target}/{learner}")
    return found


def count_attacks(learners: Sequence[str]) -> int:
    """How often `done` is called."""
    return len(TARGETS) * len(learners)


class _Read(NamedTuple):
    """What learners read of each row.

    Attributes:
        kept: `[N, d]` float, columns that they read as they are.
        pressed: `[N, p]` float, many columns that are brought down to a few components first; in
            one with them the few that matter most would be lost.
        given: whether this release gives any of what is the target's own.
    """

    kept: Array
    pressed: Array
    given: bool


def _learned_from(outputs: Outputs) -> dict[str, _Read]:
    """Target -> what learners read."""
    answers = [scaled_logits(outputs.logits, outputs.labels)]
    for task, logits in outputs.logits.items():
        answers.append(logits)
        answers += [score(logits, outputs.labels[task])[:, None] for score in THRESHOLDS.values()]
    business = filled(np.concatenate(answers, axis=1))
    distance, further = (
        [outputs.further[n][:, None] for n in names if n in outputs.further]
        for names in (_OF_FEATURES, _OF_RELEASE)
    )
    none = np.zeros((len(business), 0))
    features = np.concatenate([business, *distance], axis=1)
    release = filled(np.concatenate([features, *further, outputs.regions], axis=1))
    seen = outputs.features.shape[1] > 0
    return {
        "business": _Read(business, none, business.shape[1] > 0),
        "features": _Read(features, outputs.features, seen or bool(distance)),
        "release": _Read(release, outputs.features, release.shape[1] > 0 or seen),
    }
