"""By how much a risk falls: the paper's claim, what its own figures give, and ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from tf_mtl_privacy.reporting.run_figures import NONE, NOT_MEASURED, Figure, RunFigures, spread

# Its abstract: "reducing privacy leakage risks by 92.5% compared to traditional models".
PAPER_CLAIM = 0.925
# Tables 1 and 3 of the paper, on CelebA: rates in [0, 1], PSNR in dB. Its privacy classification
# accuracy is that of the discriminator within training.
PAPER = {
    "stl": {
        "gender": 0.952,
        "age": 0.786,
        "expression_f1": 0.813,
        "discriminator": 0.897,
        "membership": 0.825,
    },
    "mtl_adv": {
        "gender": 0.968,
        "age": 0.821,
        "expression_f1": 0.835,
        "psnr_db": 30.2,
        "discriminator": 0.236,
        "membership": 0.182,
    },
    "mtl_dp": {
        "gender": 0.945,
        "age": 0.793,
        "expression_f1": 0.801,
        "psnr_db": 30.5,
        "discriminator": 0.198,
        "membership": 0.157,
        "epsilon_conditional": 0.5,
    },
    "mtl_adv_dp": {
        "gender": 0.973,
        "age": 0.845,
        "expression_f1": 0.857,
        "psnr_db": 32.8,
        "discriminator": 0.125,
        "membership": 0.073,
        "epsilon_conditional": 0.5,
    },
}
# The paper names no number of classes; its 12.5 % would be chance for 8. For membership inference
# it calls 5 % a random guess.
PAPER_CHANCE = {"discriminator": 0.125, "membership": 0.05}


class Measure(NamedTuple):
    """What is compared: a figure of the protected model with one of the unprotected model.

    Like with like: a fresh attacker of one with a fresh attacker of the other. The in-loop
    discriminator reads far less than a fresh attacker does, removal or not, so it is held against
    the in-loop discriminator only.
    """

    title: str
    on: str
    off: str


MEASURES = {
    "probe": Measure("probe on features", "probe_features", "probe_features"),
    "probe_high": Measure("probe, upper end", "probe_features_high", "probe_features"),
    "in_loop": Measure("in-loop discriminator", "discriminator", "discriminator"),
}
BASELINES = ("stl", "mtl_dp")


def reduction(p_off: float, p_on: float, chance: float = 0.0) -> float | None:
    """(p_off - p_on) / (p_off - chance): the share of a risk that is gone.

    With `chance` 0 it is the relative reduction; with the accuracy of a guess, the reduction of
    what an attacker has beyond it (1 at chance, above 1 below it). None where `p_off` is at most
    `chance`: there is nothing to reduce.
    """
    return None if p_off <= chance else (p_off - p_on) / (p_off - chance)


def paper_reductions() -> dict[str, dict[str, dict[str, float | None]]]:
    """Model -> figure -> `relative` and `above_chance`, from the paper's own Table 3."""
    stl = PAPER["stl"]
    return {
        model: {
            name: {
                "relative": reduction(stl[name], figures[name]),
                "above_chance": reduction(stl[name], figures[name], chance),
            }
            for name, chance in PAPER_CHANCE.items()
        }
        for model, figures in PAPER.items()
        if model != "stl"
    }


def our_reductions(
    runs: Mapping[str, Mapping[int, RunFigures]], seeds: Sequence[int]
) -> dict[str, dict[str, dict[str, Any]]]:
    """Baseline -> model -> measure -> `relative` and `above_chance`, each a `spread` over seeds.

    A seed counts where both models have it and neither's attackers are underpowered: a low figure
    of a weak attacker is no reduction.

    Args:
        runs: model -> seed -> its figures.
        seeds: all seeds, in order.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for baseline in BASELINES:
        found[baseline] = {}
        for model, by_seed in runs.items():
            if model in ("stl", baseline):
                continue
            found[baseline][model] = {
                name: {
                    kind: spread(
                        _one(runs[baseline].get(seed), by_seed.get(seed), measure, kind)
                        for seed in seeds
                    )
                    for kind in ("relative", "above_chance")
                }
                for name, measure in MEASURES.items()
                # STL has no discriminator.
                if name != "in_loop" or baseline != "stl"
            }
    return found


def _one(off: RunFigures | None, on: RunFigures | None, measure: Measure, kind: str) -> Figure:
    if off is None or on is None or off.underpowered or on.underpowered:
        return Figure(None, NOT_MEASURED)
    p_off, p_on = off.figures[measure.off].value, on.figures[measure.on].value
    chance = 0.0 if kind == "relative" else on.chance
    if p_off is None or p_on is None or chance is None:
        return Figure(None, NOT_MEASURED)
    value = reduction(p_off, p_on, chance)
    return Figure(value, NONE if value is None else "")
