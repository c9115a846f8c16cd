"""Runs to export, with random networks and every removal method, and a polling observer."""

import dataclasses
import hashlib
import json
import time
from pathlib import Path

import numpy as np

from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import ModelConfig
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.models.layers import first_layer
from tf_mtl_privacy.removal.erasure import Erasure
from tf_mtl_privacy.removal.mask import WithoutAxis, region_finder, switch_mask
from tf_mtl_privacy.training.saved_run import SavedRun

TASKS = {"gender": ("female", "male"), "age": ("young", "middle", "old")}
PRIVATE = ("blue", "green", "grey")
CARD = {"summary": "No claim is made.", "released": {"encoder": None}}
MASK = {"mask": "learned", "mask_fill": "colour", "mask_cell": 2, "mask_margin": 1, "mask_width": 4}


def covered_run():
    """A run with a mask whose fill removes a colour, erasure, and the pixel path."""
    removal = MASK | {"erasure": "leace", "erasure_rank": 2}
    return saved_run(tiny_config(removal=removal), pixel_path=True)


def noisy_run():
    """A run with noise on the features and no mask, so that its map needs the discriminator."""
    return saved_run(tiny_config(removal={"feature_noise": 0.5}))


def single_task_run():
    return saved_run(tiny_config("stl"))


def saved_run(config, **model):
    model = ModelConfig(**(dataclasses.asdict(config.model) | model))
    config = dataclasses.replace(config, model=model)
    counts = {task: len(classes) for task, classes in TASKS.items()}
    if config.train.model == "stl":
        single = {task: _networks(config, {task: counts[task]}, 0) for task in TASKS}
        return _run(config, single["gender"], single)
    return _run(config, _networks(config, counts, len(PRIVATE)), {})


def _run(config, bundle, single):
    return SavedRun(Path("run"), config, TASKS, PRIVATE, bundle, single, "print", {})


def _networks(config, tasks, private):
    """Builds networks with random weights only, so that every layer has an effect."""
    bundle, rng = build_bundle(config, tasks, private), np.random.default_rng(3)
    for _, model in bundle.items():
        for weight in model.trainable_weights:
            weight.assign(weight.numpy() + rng.normal(0, 0.05, weight.shape))
    if config.removal.mask == "learned":
        last = [layer for layer in region_finder(bundle.encoder).layers if layer.weights][-1]
        last.kernel.assign(rng.normal(0, 1, last.kernel.shape))
        last.bias.assign(np.full(last.bias.shape, -0.3))
        switch_mask(bundle.encoder, on=True)
    for layer in bundle.encoder.layers:
        if isinstance(layer, WithoutAxis):
            layer.axis.assign(np.array([2, -1, 2]) / 3)
    erasure = first_layer(bundle.encoder, Erasure)
    if erasure is not None:
        for weight in erasure.weights:
            weight.assign(rng.normal(0, 0.03, weight.shape))
    return bundle


def watch(folder, done):
    """Polls a model's folder as a server does, until `done` and once more.

    Returns a dictionary for each look: version -> True if it was complete.
    """
    seen, last = [], False
    while not last:
        last = done.is_set()
        numbered = [path for path in folder.glob("*") if path.name.isdecimal()]
        seen.append({path.name: is_complete(path) for path in numbered})
        time.sleep(0.01)
    return seen


def is_complete(version):
    """Returns True if a version has exactly the files in its checksums, unchanged."""
    sums = version / "assets.extra" / "checksums.json"
    if not sums.exists():
        return False
    files = {
        path.relative_to(version).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in version.rglob("*")
        if path.is_file() and path != sums
    }
    return files == json.loads(sums.read_text()) and "saved_model.pb" in files
