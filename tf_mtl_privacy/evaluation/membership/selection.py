"""The attack is chosen on one half of members and non-members and reported on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tf_mtl_privacy.evaluation.membership.roc import best_threshold, figures, tpr_at

Array = np.ndarray[Any, Any]
# What is chosen by: the figure that the paper gives.
CHOSEN_BY = 0.05
# Fewer scored rows on a side of a half are nothing to report.
FEWEST = 4


class Split(NamedTuple):
    """Who is who, and which half is which.

    Attributes:
        member: `[N]` bool.
        choosing: `[N]` bool, rows that attacks learn from and are chosen by; the others report.
    """

    member: Array
    choosing: Array


def halves(members: int, non_members: int, seed: int) -> Split:
    """Members first, then non-members; a random half of each is for choosing.

    Raises:
        ValueError: fewer than four on a side.
    """
    if min(members, non_members) < 4:
        raise ValueError(f"expected 4 members and 4 non-members, got {members} and {non_members}")
    draw = np.random.default_rng(seed)
    parts = [draw.permutation(count) < count // 2 for count in (members, non_members)]
    member = np.repeat([True, False], [members, non_members])
    return Split(member, np.concatenate(parts))


def reported(scores: Array, split: Split) -> dict[str, Any]:
    """`roc.figures` on the reporting half; the advantage's threshold is of the choosing half.

    Args:
        scores: `[N]` float, larger means member; NaN where a row was not attacked.
        split: see `Split`.
    """
    threshold = best_threshold(*sides(scores, split, split.choosing))
    return figures(*sides(scores, split, ~split.choosing), threshold)


def strongest(scores: Mapping[tuple[str, str], Array], split: Split) -> tuple[str, str]:
    """(target, attack) with the highest TPR at 5 % FPR on the choosing half; the first of equals.

    Args:
        scores: (target, attack) -> `[N]` scores, as for `reported`.
        split: see `Split`.
    """

    def chosen_by(name: tuple[str, str]) -> float:
        return tpr_at(*sides(scores[name], split, split.choosing), CHOSEN_BY)[0]

    return max(scores, key=chosen_by)


def lower_bounds(
    scores: Array, split: Split, rates: Sequence[float], tests: int = 1
) -> list[float]:
    """TPR that is exceeded at each of some FPRs, all of them together with 95 % confidence.

    One-sided, Bonferroni over the rates and tests; on the reporting half.

    Args:
        scores: `[N]`, as for `reported`.
        split: see `Split`.
        rates: the FPRs.
        tests: how many such lists are looked at.
    """
    reporting = sides(scores, split, ~split.choosing)
    confidence = 1 - 2 * 0.05 / (len(rates) * tests)
    return [tpr_at(*reporting, rate, confidence)[1][0] for rate in rates]


def attackable(scores: Mapping[tuple[str, str], Array], split: Split) -> dict[Any, Array]:
    """The attacks that score `FEWEST` rows or more of each side in each half.

    Args:
        scores: (target, attack) -> `[N]` scores, NaN where a row was not attacked.
        split: see `Split`.
    """
    halved = (split.choosing, ~split.choosing)
    return {
        name: values
        for name, values in scores.items()
        if min(len(side) for half in halved for side in sides(values, split, half)) >= FEWEST
    }


def sides(scores: Array, split: Split, half: Array) -> tuple[Array, Array]:
    """Scores of members and of non-members in a half (`[N]` bool), without those that are NaN."""
    used = half & ~np.isnan(scores)
    return scores[used & split.member], scores[used & ~split.member]
