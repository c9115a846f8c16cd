"""Bounds over all attackers of a target, gains of one over another, and the names they use.

Reports import this module, so it does not load TensorFlow.

Sources: Clopper and Pearson (1934) for the exact interval of a rate; Bonferroni's inequality for
several intervals at once; Cai (2005, Journal of Statistical Planning and Inference 131, "One-sided
confidence intervals in discrete distributions") for the correction of skewness; Newcombe (1998,
Statistics in Medicine 17, 2635-2650) on differences of paired proportions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple, cast

import numpy as np

from tf_mtl_privacy.evaluation.intervals import clopper_pearson
from tf_mtl_privacy.evaluation.schema import Bound, Interval, ProbeResults, Reading
from tf_mtl_privacy.types import Array

# Target -> True where it belongs to the run; references show the attackers' power, not leakage.
TARGETS = {
    "features": True,
    "restored": True,
    "pixels": False,
    "untrained": False,
    "logits": True,
    "regions": True,
    "features_and_regions": True,
    "masked_pictures": True,
    "one_draw": True,
    "noiseless": True,
    "planted": False,
}
OF_RUN = tuple(name for name, of_run in TARGETS.items() if of_run)

# Trends of a learning curve.
FLAT, RISING, UNCLEAR = "flat", "still rising", "not clear"
NOT_MEASURED = "not measured"
# Trends that do not rule out that more rows or updates would raise the reading.
OPEN = (RISING, UNCLEAR)

LEVEL = 0.95
METHOD = "Bonferroni"
# Attackers of earlier versions learned from one kind of rows, often from few.
OLDER = (
    "these attackers are of an earlier version, which learned from one kind of rows only; "
    "evaluate --probe=fast runs new ones"
)


class Attack(NamedTuple):
    """One attacker's figures on test rows.

    Attributes:
        name: the attacker.
        trained_on: the kind of rows it was trained on.
        test: its figures.
    """

    name: str
    trained_on: str
    test: Reading


def bound(attacks: Sequence[Attack], level: float = LEVEL) -> Bound:
    """Returns upper bounds that hold for all attackers of one target together.

    Each attacker gets an interval of confidence `1 - (1 - level) / m`, m being the number of
    attackers. By Bonferroni's inequality all m intervals hold together with confidence `level`, so
    the largest upper bound limits the rate of any attacker among them, however it was chosen.

    The interval of the accuracy is Clopper and Pearson's, which is exact; the one of the balanced
    accuracy is that of `intervals.balanced_accuracy_interval`, widened to the confidence and
    corrected for skewness.

    Args:
        attacks: at least one.
        level: confidence of all intervals together, in (0, 1).

    Returns:
        The largest upper bounds, `accuracy` and `balanced_accuracy`, in [0, 1]; `attacker` and
        `trained_on` name the attacker with the highest end; `attackers` is m.

    Raises:
        ValueError: no attackers.
    """
    if not attacks:
        raise ValueError("expected at least one attacker")
    confidence = 1 - (1 - level) / len(attacks)
    ends = [(_upper(a.test, confidence), _balanced_upper(a.test, confidence)) for a in attacks]
    # Of equal ends the attacker that reads more is named.
    highest = max(
        range(len(attacks)), key=lambda k: (max(ends[k]), attacks[k].test["balanced_accuracy"])
    )
    return {
        "accuracy": max(end for end, _ in ends),
        "balanced_accuracy": max(end for _, end in ends),
        "attacker": attacks[highest].name,
        "trained_on": attacks[highest].trained_on,
        "attackers": len(attacks),
        "level": level,
        "method": METHOD,
    }


def upper_end(test: Reading) -> float:
    """Returns the higher of the upper 95 % bounds of accuracy and balanced accuracy."""
    return float(max(test["ci95"][1], *test.get("balanced_ci95", [])[1:], 0.0))


def pack(right: Array) -> str:
    """Packs `[N]` bool into hex digits, eight rows a byte, for JSON."""
    return np.packbits(np.asarray(right, bool)).tobytes().hex()


def unpack(text: str, count: int) -> Array:
    """Reverses `pack`: `[count]` bool.

    Raises:
        ValueError: the text is not of so many rows.
    """
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"expected {count} rows, got {len(packed)} bytes")
    return np.unpackbits(packed, count=count).astype(bool)


def paired_gain(
    before: Array, after: Array, labels: Array, confidence: float = LEVEL
) -> tuple[float, Interval]:
    """Returns the gain in balanced accuracy of one classifier over another on the same rows.

    `d = mean_k (p_k - q_k)`, where p_k is the share of class k that only the second classifier gets
    right and q_k the share that only the first does. Rows of different classes are independent, so
    `var d = sum_k (p_k + q_k - (p_k - q_k)^2) / n_k / K^2`; in the variance alone half a row is
    added to each of the two counts and one to n_k, so that few rows do not count as certain.

    Args:
        before: `[N]` bool, rows that the first classifier gets right.
        after: `[N]` bool, likewise for the second.
        labels: `[N]` int classes.
        confidence: two-sided, in (0, 1).

    Returns:
        The gain, in [-1, 1], and its interval `[low, high]`.
    """
    gains, variance = [], 0.0
    for label in np.unique(labels):
        here = labels == label
        count = int(here.sum())
        up = int((after & ~before & here).sum())
        down = int((before & ~after & here).sum())
        gains.append((up - down) / count)
        p, q = (up + 0.5) / (count + 1), (down + 0.5) / (count + 1)
        variance += (p + q - (p - q) ** 2) / count
    gain = float(np.mean(gains))
    spread = _quantile(confidence) * math.sqrt(variance) / len(gains)
    return gain, [max(-1.0, gain - spread), min(1.0, gain + spread)]


def is_older(probe: Mapping[str, Any]) -> bool:
    """Returns True for the attackers of earlier versions; a low figure of theirs is no claim."""
    features = probe.get("features")
    return bool(features and features.get("strongest") and "by_rows" not in features)


def marked(probe: Mapping[str, Any]) -> ProbeResults:
    """Returns a `privacy.probe`, marked as underpowered where its attackers are `is_older`."""
    if not is_older(probe):
        return cast(ProbeResults, probe)
    reasons = [*(probe.get("underpowered_reasons") or ()), OLDER]
    unique = list(dict.fromkeys(reasons))
    return cast(ProbeResults, {**probe, "underpowered": True, "underpowered_reasons": unique})


def _upper(test: Reading, confidence: float) -> float:
    n = int(test["n"])
    hits = min(max(round(test["accuracy"] * n), 0), n)
    return max(clopper_pearson(hits, n, confidence)[1], float(test["ci95"][1]))


def _balanced_upper(test: Reading, confidence: float) -> float:
    """The reported half-width times the ratio of quantiles, and Cai's shift for skewness.

    The shift is `(z^2 / 3 + 1/6) (1 - 2 a) / n`, n being the rows of one binomial with the same
    variance; without it the end is too low for few rows and for the small tails of many attackers.
    """
    rate, z = float(test["balanced_accuracy"]), _quantile(confidence)
    low, high = test.get("balanced_ci95") or test["ci95"]
    # One of the ends may be cut at 0 or 1.
    error = max(rate - float(low), float(high) - rate) / _quantile(LEVEL)
    share = min(max(rate, 0.5 / test["n"]), 1 - 0.5 / test["n"])
    shift = (z**2 / 3 + 1 / 6) * max(1 - 2 * share, 0.0) * error**2 / (share * (1 - share))
    return min(1.0, max(rate + z * error + shift, float(high)))


def _quantile(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)
