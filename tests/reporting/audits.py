"""A made-up audit.json: figures by hand, in the shape that `audit` writes."""

import copy

_CURVE = {"fpr": [0.0, 0.001, 0.01, 0.05, 0.2, 1.0], "tpr": [0.0, 0.002, 0.013, 0.058, 0.22, 1.0]}
_ATTACK = {
    "auc": 0.514,
    "auc_ci95": [0.503, 0.525],
    "advantage": 0.021,
    "advantage_ci95": [0.01, 0.04],
    "tpr_at_fpr": {
        "0.001": {"value": None, "ci95": None},
        "0.01": {"value": 0.013, "ci95": [0.01, 0.017]},
        "0.05": {"value": 0.058, "ci95": [0.051, 0.066]},
    },
    "roc": _CURVE,
}


def attack_figures(audit):
    """Figures of every attack, those of the chosen one left out."""
    groups = (audit["membership"][name] for name in ("business", "features", "release"))
    return [figures for group in groups for figures in group.values()]


def make_audit(results=None, **changes):
    """An audit of the run of `results`; `changes` replace its parts."""
    audit = {
        "schema_version": 1,
        "setting": "fast",
        "run_dir": "demo",
        "seed": 0,
        "config": (results or {}).get("config"),
        "membership": {
            "data": {
                "members": 5000,
                "non_members": 5000,
                "same_distribution": {"auc": 0.502, "ci95": [0.491, 0.513], "ok": True},
            },
            "business": {"loss": _ATTACK, "entropy": _ATTACK | {"auc": 0.507}},
            "features": {"logistic": _ATTACK | {"auc": 0.509}},
            "release": {"learned": _ATTACK | {"auc": 0.51}},
            "strongest": {"target": "business", "attack": "modified_entropy", **_ATTACK},
            "power": {
                "run_dir": "overfitted",
                "data": {"members": 1000, "non_members": 1000},
                "target": "business",
                "attack": "loss",
                **_ATTACK,
                "auc": 0.93,
                "auc_ci95": [0.92, 0.94],
                "tpr_at_fpr": _ATTACK["tpr_at_fpr"]
                | {"0.05": {"value": 0.58, "ci95": [0.5, 0.66]}},
            },
        },
        "attributes": None,
        "inversion": {
            "psnr_db": 31.5,
            "ssim": 0.951,
            "retrieval_rank1": 0.42,
            "retrieval_rank1_ci95": [0.39, 0.45],
            "chance": 0.001,
            "images": 1000,
            "retrieval": "same_person",
            "retrieval_queries": 640,
            "retrieval_of_originals": 0.63,
            "mean_image": {"psnr_db": 14.1, "ssim": 0.31},
        },
        "dp_audit": {
            "epsilon_lower": None,
            "confidence": 0.95,
            "delta": 1e-5,
            "claimed": None,
            "max_detectable": None,
            "verdict": "no_claim",
            "guesses": 0,
            "correct": 0,
            "canaries": 0,
            "text": "no claim to test: no released weight has an epsilon",
        },
        "contradictions": [],
        "not_done": [{"what": "LiRA", "why": "the setting fast leaves it out"}],
    }
    return copy.deepcopy(audit | changes)
