"""The attacks on each target that need nothing but what is given away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

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
    - features: the distance to the features of what is restored from them, and learners.
    - release: restoration error and discriminator, and learners on all of it together.

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
    for target, rows in _learned_from(outputs).items():
        for learner in learners:
            if rows.shape[1]:
                found[target, learner] = learned_scores(learner, rows, split, seed)
            done(f"{target}/{learner}")
    return found


def count_attacks(learners: Sequence[str]) -> int:
    """How often `done` is called."""
    return len(TARGETS) * len(learners)


def _learned_from(outputs: Outputs) -> dict[str, Array]:
    """Target -> `[N, d]`, what learners read."""
    business = [scaled_logits(outputs.logits, outputs.labels)]
    for task, logits in outputs.logits.items():
        business.append(logits)
        business += [score(logits, outputs.labels[task])[:, None] for score in THRESHOLDS.values()]
    features = [outputs.features]
    features += [outputs.further[n][:, None] for n in _OF_FEATURES if n in outputs.further]
    further = [outputs.further[n][:, None] for n in _OF_RELEASE if n in outputs.further]
    return {
        "business": filled(np.concatenate(business, axis=1)),
        "features": np.concatenate(features, axis=1),
        "release": filled(
            np.concatenate([*business, *features, *further, outputs.regions], axis=1)
        ),
    }
