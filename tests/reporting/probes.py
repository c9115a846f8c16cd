"""The `privacy.probe` part of results, from readings written by hand."""

from tf_mtl_privacy.evaluation.intervals import wilson_interval
from tf_mtl_privacy.evaluation.probes.attack import Reading
from tf_mtl_privacy.evaluation.probes.summary import (
    OWN,
    UNSEEN,
    not_measured,
    probe_summary,
    target_summary,
)

ROWS = 1000
TARGETS = (
    "features",
    "restored",
    "pixels",
    "untrained",
    "logits",
    "regions",
    "features_and_regions",
    "one_draw",
    "noiseless",
    "planted",
)
LOW = {"features": 143, "restored": 131, "logits": 125, "regions": 139}
LOW |= {"one_draw": 128, "features_and_regions": 142}


def reading(name, hits):
    """An attacker who reads `hits` of 1000 rows."""
    rate, interval = hits / ROWS, wilson_interval(hits, ROWS)
    figures = {"accuracy": rate, "balanced_accuracy": rate, "ci95": interval, "n": ROWS}
    return Reading(name, rate, {**figures, "balanced_ci95": interval})


def whole_probe(pixels=990):
    """Every target attacked, the encoder's own rows and a run with removal off too."""
    hits = dict.fromkeys(TARGETS, 900) | LOW | {"pixels": pixels}
    found = {
        name: target_summary([reading("knn_whitened", 120), reading("local_raw", n)], UNSEEN, 6000)
        for name, n in hits.items()
    }
    found["features"]["own"] = target_summary([reading("local_raw", 152)], OWN, 5000)
    found["features"]["draws"] = 64
    off = target_summary([reading("local_whitened", 787)], UNSEEN, 6000)["strongest"]
    return probe_summary("thorough", found, off, 12.3, {"fresh_probe_balanced_accuracy": 0.781}) | {
        "weights": "0123456789abcdef",
        "kept_readings": 3,
        "kept_best": {
            "features": {
                **{
                    k: found["features"][k]
                    for k in ("strongest", "attackers", "trained_on", "rows", "bound")
                },
                **{"split": "test", "setting": "thorough", "readings": 2},
            }
        },
    }


def patient(probe):
    """The probe of attackers whose readings no longer change with more rows and updates."""
    return probe | {"patience": {"checked": True, "flat": True, "reason": "flat"}}


def bare_probe():
    """Nothing could be attacked."""
    found = {name: not_measured("there are no rows") for name in TARGETS}
    found["features"]["own"] = not_measured("there are no rows either")
    return probe_summary("fast", found, None, 0.0) | {
        "weights": "0123456789abcdef",
        "kept_readings": 0,
    }
