"""Made-up finished runs: folders with a results.json that has what tables read."""

import json

from tf_mtl_privacy.privacy.noise_record import NOISE

PROBE = "strongest"


def results(model="mtl_adv_dp", seed=0, features=0.5, high=0.55, **changes):
    """A results.json; `changes` are paths with `__` for a dot, and `...` leaves a key out."""
    everything = model == "dp_scope_all"
    found = {
        "schema_version": 1,
        "model": "mtl_adv_dp" if everything else model,
        "seed": seed,
        "config": {},
        "evaluated_on": {"data_fingerprint": "feed" * 16},
        "utility": {
            "gender": {"accuracy": 0.97},
            "age": {"accuracy": 0.85},
            "expression": {"accuracy": 0.9, "f1": 0.88},
        },
        "restoration": {"psnr_db": 30.0},
        "privacy": {
            "chance": 0.125,
            "discriminator": {"accuracy": 0.13},
            "probe": {
                "features": {
                    PROBE: {"accuracy": features, "ci95": [features - 0.05, high]},
                    "by_rows": {},
                },
                "restored": {PROBE: {"accuracy": 0.2, "ci95": [0.18, 0.22]}},
                "patience": {"checked": True, "flat": True, "reason": "flat"},
                "underpowered": False,
                "underpowered_reasons": [],
            },
        },
        "dp": {
            "scope": "all" if everything else "discriminator",
            "conditional": {"discriminator": None if everything else 0.49},
            "released": {"encoder": 0.49 if everything else None},
            "unaccounted_label_access": [],
            "noise": NOISE,
        },
        "training": {"seconds": 100.0},
        "stop_rule": {"parts": {}},
    }
    if model == "stl":
        found["restoration"] = {"psnr_db": None, "reason": "the model has no restorer"}
        found["privacy"] |= {"discriminator": None, "reason": "the model has no discriminator"}
        found["privacy"]["probe"]["restored"] = {PROBE: None, "reason": "no restored images"}
        found["dp"] |= {"scope": None, "conditional": {"discriminator": None}}
    for path, value in changes.items():
        *above, last = path.split("__")
        place = found
        for key in above:
            place = place[key]
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return found


def write_run(folder, found):
    """Writes a finished run's folder."""
    folder.mkdir(parents=True)
    (folder / "results.json").write_text(json.dumps(found), encoding="utf-8")


def write_table(runs, *made):
    """Writes runs by their models and seeds; of `dp_scope_all` by its scope."""
    for found in made:
        model = "dp_scope_all" if found["dp"]["scope"] == "all" else found["model"]
        write_run(runs / f"{model}-seed{found['seed']}", found)
