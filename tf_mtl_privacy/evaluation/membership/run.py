"""Membership inference against one release: the `membership` part of audit.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

import numpy as np

from tf_mtl_privacy.evaluation.membership.attacks import (
    TARGETS,
    Split,
    attack_scores,
    attackable,
    halves,
    reported,
    strongest_attack,
)
from tf_mtl_privacy.evaluation.membership.claims import known_without_model, same_distribution
from tf_mtl_privacy.evaluation.membership.outputs import (
    Candidates,
    Forward,
    ReleasedOutputs,
    both,
    read_outputs,
)
from tf_mtl_privacy.evaluation.schema import AttackFigures, Membership
from tf_mtl_privacy.models.layers import layer_seed
from tf_mtl_privacy.types import Array

# (target, attack) -> `[N]` scores, larger means member.
Scores = Mapping[tuple[str, str], Array]
# Outputs on all rows -> scores of further attacks, for example LiRA; NaN for rows not attacked.
FurtherAttacks = Callable[[ReleasedOutputs], Scores]


@dataclasses.dataclass(frozen=True)
class MembershipBudget:
    """Numbers of rows and models of membership attacks.

    Attributes:
        rows: largest number of members, and of non-members.
        learners: learned attacks, names of `attacks.LEARNERS`.
        head_rows: largest number of members, and of non-members, in the pool of the shadow heads.
        heads: number of shadow heads; even.
        head_epochs: epochs of each head.
    """

    rows: int
    learners: tuple[str, ...]
    head_rows: int
    heads: int
    head_epochs: int

    def with_rows(self, rows: int) -> MembershipBudget:
        """Returns the budget with another number of rows, the heads' pool in proportion."""
        pool = max(self.head_rows * rows // self.rows, 1)
        return dataclasses.replace(self, rows=rows, head_rows=pool)


MEMBERSHIP_BUDGETS = {
    "fast": MembershipBudget(
        rows=3_000, learners=("logistic", "trees"), head_rows=1_000, heads=4, head_epochs=4
    ),
    "thorough": MembershipBudget(
        rows=20_000,
        learners=("logistic", "trees", "mlp"),
        head_rows=10_000,
        heads=8,
        head_epochs=3,
    ),
}


class MembershipResult(NamedTuple):
    """Results of all attacks.

    Attributes:
        summary: the `membership` part of audit.json, without `verdict`.
        scores: (target, attack) -> `[N]` scores, members first; without attacks that scored too few
            rows.
        split: members and halves.
    """

    summary: Membership
    scores: Scores
    split: Split


def membership(
    forward: Forward,
    members: Candidates,
    non_members: Candidates,
    budget: MembershipBudget,
    seed: int,
    *,
    further: FurtherAttacks = lambda outputs: {},
    done: Callable[[int, str], None] = lambda count, what: None,
) -> MembershipResult:
    """Attacks a release.

    Args:
        forward: the release, see `outputs.Forward`.
        members: rows that it was trained on.
        non_members: rows of the same distribution that nothing was trained on.
        budget: the attackers' budget.
        seed: of halves and learners.
        further: further attacks.
        done: called with 1 and a name after each batch and each attack.
    """
    parts = [
        read_outputs(forward, side, lambda: done(1, "reading outputs"))
        for side in (members, non_members)
    ]
    outputs = both(*parts)
    counts = len(members.numbers), len(non_members.numbers)
    split = halves(*counts, layer_seed(seed, "membership/halves"))
    seed = layer_seed(seed, "membership/attacks")
    private = np.concatenate([side.labels.private for side in (members, non_members)])
    known = known_without_model(outputs.pictures, outputs.labels, private)
    alike = same_distribution(known, split, seed)
    done(1, "same distribution")
    scores = attack_scores(outputs, split, budget.learners, seed, lambda name: done(1, name))
    scores = attackable(scores | dict(further(outputs)), split)
    whole = {
        "data": {"members": counts[0], "non_members": counts[1], "same_distribution": alike},
        "power": None,
    }
    return MembershipResult(cast(Membership, whole | summary(scores, split)), scores, split)


def summary(scores: Scores, split: Split) -> dict[str, object]:
    """Returns `strongest`, and target -> attack -> figures on the reporting half."""
    targets: dict[str, dict[str, AttackFigures]] = {target: {} for target in TARGETS}
    for (target, name), values in scores.items():
        targets[target][name] = reported(values, split)
    target, name = strongest_attack(scores, split)
    return {**targets, "strongest": {"target": target, "attack": name, **targets[target][name]}}
