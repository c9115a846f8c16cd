"""Whole results from random predictions and the schedule's own gates, and whole reports."""

import copy
import functools

import numpy as np
import pytest

from tests.reporting.private_runs import plain_dp, private_config, private_dp
from tests.reporting.probes import bare_probe, whole_probe
from tests.reporting.regions import no_regions, whole_regions
from tests.reporting.report.runs import kept_results, write_run
from tf_mtl_privacy.evaluation.summary import evaluation_summary
from tf_mtl_privacy.evaluation.train_test_overlap import NOT_KNOWN, SeenPeople
from tf_mtl_privacy.reporting.build import build_report
from tf_mtl_privacy.reporting.results import build_results
from tf_mtl_privacy.reporting.runs import read_run
from tf_mtl_privacy.training import schedule
from tf_mtl_privacy.training.inference import Predictions

CLASSES = {"gender": ("female", "male"), "age": ("child", "young", "middle", "senior")}
ENVIRONMENT = {
    "versions": {"python": "3.11.0", "package": None},
    "hardware": {"cpu": "some", "cores": 2, "memory_gib": 7.8, "accelerators": []},
    "commit": {"hash": "0" * 40, "dirty": False},
}
FIGURES = {
    "gender_accuracy": 0.973,
    "age_accuracy": 0.81,
    "privacy_balanced_accuracy": 0.61,
    "psnr_db": 27.31,
}


def _predictions(n, private_classes):
    rng = np.random.default_rng(0)
    labels = {task: rng.integers(-1, len(names), n) for task, names in CLASSES.items()}
    # Women are read without a fault, men at random.
    guess = {task: np.eye(len(names))[values] for task, (names, values) in _zip(labels)}
    men = labels["gender"] == 1
    guess["age"][men] = rng.normal(size=(men.sum(), 4))
    return Predictions(
        business=guess,
        business_labels=labels,
        private_logits=rng.normal(size=(n, private_classes)),
        private_labels=rng.integers(-1, private_classes, n),
        psnr=rng.normal(27, 1, n),
        ssim=rng.normal(0.9, 0.01, n),
        business_on_restored=guess,
        index=np.arange(n),
        mean_image_psnr=rng.normal(16, 1, n),
    )


def _zip(labels):
    return {task: (CLASSES[task], values) for task, values in labels.items()}.items()


def _status(config):
    gates = {
        phase: schedule.gate(config, phase, figures, CLASSES) | {"epochs": 3, "bound": 10}
        for phase, figures in (
            ("business", FIGURES),
            ("discriminator", FIGURES),
            ("restorer", {}),
        )
    }
    return {
        "gates": gates,
        "stop_rule": schedule.stop_rule(config, [FIGURES] * 7, CLASSES),
        "training": {
            "model": config.train.model,
            "steps": 12345,
            "seconds": 283.3,
            "phases": {"business": {"epochs": 3, "most_epochs": 10, "steps": 90, "seconds": 1.5}},
            "final_beta": 0.3,
            "before_game": {"fresh_probe_balanced_accuracy": 0.79},
            "final_check": {"epoch": 3, "fresh_probe_balanced_accuracy": 0.13},
            "kept_epoch": 3,
            "in_loop": {"most_balanced_accuracy": 0.61, "epochs": 7},
            "parameters": {"encoder": 1000},
            "perceptual_loss": "none",
        },
        "dp": copy.deepcopy(_dp(config.train.is_private)),
    }


@functools.cache
def _dp(is_private):
    # The library's statement takes its time: once for all tests.
    return private_dp(ended={"adversarial": 12}) if is_private else plain_dp()


def make_results(
    n=600,
    private_classes=8,
    seen=NOT_KNOWN,
    model="mtl_adv_dp",
    probe=None,
    regions=None,
    **changes,
):
    config = private_config(model=model)
    names = tuple(f"class{number}" for number in range(private_classes))
    evaluation = evaluation_summary(
        _predictions(n, private_classes)._replace(**changes),
        CLASSES,
        names,
        {"train": 1200, "test": n},
        0,
        seen=seen,
    )
    evaluation["privacy"]["probe"] = probe
    evaluation["regions"] = regions or no_regions()
    evaluated_on = {
        "dataset": "synthetic_faces",
        "split": "test",
        "data_fingerprint": "0123456789abcdef",
        "changed": {"synthetic_shift": "blur"},
        "label_note": None,
        "notes": [],
    }
    return build_results(config, _status(config), evaluation, evaluated_on, ENVIRONMENT)


@pytest.fixture
def results():
    seen = SeenPeople(7, np.arange(600) % 3 == 0)
    return make_results(seen=seen, probe=whole_probe(), regions=whole_regions())


@pytest.fixture
def bare_results():
    """Few rows, no discriminator, no restorer, no DP, nothing known about training."""
    n = 40
    missing = ("private_logits", "psnr", "ssim", "business_on_restored", "mean_image_psnr")
    found = make_results(n=n, model="mtl_adv", probe=bare_probe(), **dict.fromkeys(missing))
    return found | {"gates": {}, "stop_rule": None, "training": None, "commit": None}


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """A run that has everything, and whose name wants to be HTML and Markdown."""
    lfw = {**kept_results(), "utility": {"gender": {"accuracy": 0.881}, "age": {"accuracy": 0.7}}}
    folder = tmp_path_factory.mktemp("runs") / "<b>*demo*&amp;"
    return read_run(write_run(folder, results_lfw_0123abcd=lfw))


@pytest.fixture(scope="module")
def other_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "off"
    return read_run(write_run(folder, kept_results("synthetic_removal_off"), audit=False))


@pytest.fixture(scope="module")
def whole(whole_run, other_run):
    return build_report(whole_run, [other_run])


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """The report of a run that has its results and nothing else."""
    results = kept_results()
    results["privacy"]["probe"] = None
    folder = tmp_path_factory.mktemp("runs") / "bare"
    return build_report(
        read_run(write_run(folder, results, audit=False, pictures=False, epochs=False))
    )
