"""The attack is chosen on one half of members and non-members and reported on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tf_mtl_privacy.evaluation.intervals import clopper_pearson
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
    """(target, attack) that surely does best on the choosing half; the first of equals.

    By the lower end of the interval of the TPR at 5 % FPR, then by the TPR: the largest of many
    values is often that of the attack with the fewest rows.

    Args:
        scores: (target, attack) -> `[N]` scores, as for `reported`.
        split: see `Split`.
    """

    def chosen_by(name: tuple[str, str]) -> tuple[float, float]:
        value, (low, _) = tpr_at(*sides(scores[name], split, split.choosing), CHOSEN_BY)
        return low, value

    return max(scores, key=chosen_by)


def operating_points(
    scores: Array, split: Split, rates: Sequence[float], tests: int = 1
) -> list[tuple[float, float]]:
    """(least TPR, most FPR) at one threshold for each rate, all together with 95 % confidence.

    The threshold has about that FPR on the choosing half. It is fixed for the reporting half, where
    hits and false alarms are binomial counts, so that the one-sided bounds are Clopper and
    Pearson's (1934), which hold for any number of rows; Bonferroni over both sides, rates, tests.

    Args:
        scores: `[N]`, as for `reported`.
        split: see `Split`.
        rates: the FPRs.
        tests: how many such lists are looked at.
    """
    others = sides(scores, split, split.choosing)[1]
    members, non_members = sides(scores, split, ~split.choosing)
    error = 0.05 / (2 * len(rates) * tests)
    found = []
    for rate in rates:
        threshold = float(np.quantile(others, 1 - rate, method="higher"))
        hits, alarms = int((members > threshold).sum()), int((non_members > threshold).sum())
        least = clopper_pearson(hits, len(members), 1 - 2 * error)[0]
        most = clopper_pearson(alarms, len(non_members), 1 - 2 * error)[1]
        found.append((least, most))
    return found


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
