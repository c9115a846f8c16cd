"""Membership inference against one release: the `membership` part of audit.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tf_mtl_privacy.evaluation.membership.attacks import (
    TARGETS,
    Split,
    attack_scores,
    attackable,
    halves,
    reported,
    strongest,
)
from tf_mtl_privacy.evaluation.membership.budget import Effort
from tf_mtl_privacy.evaluation.membership.claims import known_without_model, same_distribution
from tf_mtl_privacy.evaluation.membership.outputs import Forward, Outputs, both, read_outputs
from tf_mtl_privacy.evaluation.membership.rows import Candidates
from tf_mtl_privacy.models.layers import layer_seed

Array = np.ndarray[Any, Any]
Scores = Mapping[tuple[str, str], Array]
# What every row's outputs say -> further attacks, for example LiRA; NaN where a row is not in them.
More = Callable[[Outputs], Scores]


class Membership(NamedTuple):
    """What was found.

    Attributes:
        summary: the `membership` part of audit.json.
        scores: (target, attack) -> `[N]` scores, members first; without attacks that had too few
            rows to score (labels are missing).
        split: who is who.
    """

    summary: dict[str, Any]
    scores: Scores
    split: Split


def membership(
    forward: Forward,
    members: Candidates,
    non_members: Candidates,
    effort: Effort,
    seed: int,
    *,
    more: More = lambda outputs: {},
    done: Callable[[int, str], None] = lambda count, what: None,
) -> Membership:
    """Attacks a release.

    Args:
        forward: what is released, see `outputs`.
        members: rows that it was trained on.
        non_members: rows drawn in the same way that nothing was trained on.
        effort: how hard attackers try.
        seed: of the halves and the learners.
        more: further attacks.
        done: called with 1 and what was done, after each batch read and each attack.
    """
    parts = [
        read_outputs(forward, side, lambda: done(1, "reading")) for side in (members, non_members)
    ]
    outputs = both(*parts)
    counts = len(members.numbers), len(non_members.numbers)
    split = halves(*counts, layer_seed(seed, "membership/halves"))
    seed = layer_seed(seed, "membership/attacks")
    private = np.concatenate([side.labels.private for side in (members, non_members)])
    known = known_without_model(outputs.pictures, outputs.labels, private)
    alike = same_distribution(known, split, seed)
    done(1, "same distribution")
    scores = attack_scores(outputs, split, effort.learners, seed, lambda name: done(1, name))
    scores = attackable(scores | dict(more(outputs)), split)
    data = {"members": counts[0], "non_members": counts[1], "same_distribution": alike}
    return Membership({"data": data, "power": None, **summary(scores, split)}, scores, split)


def summary(scores: Scores, split: Split) -> dict[str, Any]:
    """Target -> attack -> figures of the reporting half, and `strongest`."""
    found: dict[str, Any] = {target: {} for target in TARGETS}
    for (target, name), values in scores.items():
        found[target][name] = reported(values, split)
    target, name = strongest(scores, split)
    return found | {"strongest": {"target": target, "attack": name, **found[target][name]}}
