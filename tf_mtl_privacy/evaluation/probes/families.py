"""The attackers by name: what each reads, and with what."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from tf_mtl_privacy.evaluation.probes import networks, shallow
from tf_mtl_privacy.evaluation.probes.data import ClassScores
from tf_mtl_privacy.evaluation.probes.fitting import fit_network
from tf_mtl_privacy.evaluation.probes.inputs import Inputs, Rows
from tf_mtl_privacy.evaluation.probes.settings import Setting

# (what it reads, how hard it tries, seed) -> its answers.
Attacker = Callable[[Inputs, Setting, int], ClassScores]
_STRENGTHS = {"raw": (1e-2, 1.0), "standardised": (1e-4, 1e-3), "whitened": (1e-3, 1e-1)}
_OF_MAPS = ("local", "soft", "placed", "discriminator")
_NEIGHBOURS = (1, 5, 25)
# A larger step leaves some starts at chance on images, of which a small place says the label.
_IMAGE_RATE = 4e-3


def attackers(discriminator: keras.Model | None = None) -> dict[str, Attacker]:
    """Name -> attacker; a name is its family and the form that it reads.

    Args:
        discriminator: the D that the encoder met; adds 'discriminator' (a new one of its shape,
            with BatchNorm and without DP) and 'discriminator_final' (which goes on from its
            weights).
    """
    found: dict[str, Attacker] = {
        "knn_whitened": _neighbours,
        "trees_standardised": _trees("standardised"),
        "trees_whitened": _trees("whitened"),
        "mlp_whitened": _dense,
    }
    for form in ("raw", "standardised", "whitened"):
        found[f"logistic_{form}"] = _logistic(form)
        found[f"local_{form}"] = _convolutional(networks.local_network, form, 1e-2)
        found[f"soft_{form}"] = _convolutional(networks.soft_network, form, 1e-2)
        found[f"placed_{form}"] = _convolutional(networks.placed_network, form, 2e-3)
    if discriminator is not None:
        found["discriminator"] = _network(
            lambda seed: networks.with_batch_norm(discriminator, seed), "standardised"
        )
        # Its weights belong to features as they are.
        found["discriminator_final"] = _network(
            lambda seed: networks.with_same_weights(discriminator), "raw", rate=1e-3
        )
    return found


def starts_at_random(name: str) -> bool:
    """Returns whether it is a network: another start, or more updates, give another answer."""
    return name.partition("_")[0] in ("mlp", *_OF_MAPS)


def reads_maps_only(name: str) -> bool:
    """Whether it reads `[N, h, w, c]` and nothing flat."""
    return name.partition("_")[0] in _OF_MAPS


def _logistic(form: str) -> Attacker:
    def attack(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
        data = inputs.data
        return shallow.logistic(
            getattr(inputs, form),
            data.train_labels,
            data.validation_labels,
            data.classes,
            strengths=_STRENGTHS[form],
            steps=setting.steps,
            enough=setting.enough,
        )

    return attack


def _neighbours(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
    data = inputs.data
    return shallow.nearest_neighbours(
        Rows(*(part[:, : setting.columns] for part in inputs.whitened)),
        data.train_labels,
        data.validation_labels,
        data.classes,
        neighbours=_NEIGHBOURS,
    )


def _trees(form: str) -> Attacker:
    def attack(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
        data, count = inputs.data, setting.columns
        leading = Rows(*(part[:, :count] for part in inputs.whitened))
        rows = leading if form == "whitened" else inputs.selected(count)
        return shallow.boosted_trees(
            rows, data.train_labels, data.classes, rounds=setting.rounds, seed=seed
        )

    return attack


def _dense(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
    train, validation, test = inputs.whitened
    data = dataclasses.replace(inputs.data, train=train, validation=validation, test=test)
    model = networks.dense_network(train.shape[1], data.classes, units=256, seed=seed)
    unchanged = Inputs(data, 1, seed).channels("raw")
    effort = _effort(setting, setting.dense_epochs)
    return fit_network(model, data, unchanged, **effort, seed=seed)


def _convolutional(build: Callable[..., keras.Model], form: str, rate: float) -> Attacker:
    def attack(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
        data = inputs.data
        shape = data.train.shape[1:]
        if networks.is_image(shape):
            width, step = setting.image_width, min(rate, _IMAGE_RATE)
            effort = _effort(setting, setting.image_epochs)
            effort["batch_size"] = setting.image_batch_size
        else:
            width, step, effort = setting.width, rate, _effort(setting, setting.epochs)
        model = build(shape, data.classes, width=width, seed=seed)
        return fit_network(model, data, inputs.channels(form), **effort, rate=step, seed=seed)

    return attack


def _network(build: Callable[[int], keras.Model], form: str, rate: float = 2e-3) -> Attacker:
    def attack(inputs: Inputs, setting: Setting, seed: int) -> ClassScores:
        effort, channels = _effort(setting, setting.epochs), inputs.channels(form)
        return fit_network(build(seed), inputs.data, channels, **effort, rate=rate, seed=seed)

    return attack


def _effort(setting: Setting, epochs: int) -> dict[str, Any]:
    """Returns how long a network learns, as arguments of `fit_network`."""
    return {"epochs": epochs, "least_updates": setting.least_updates, "enough": setting.enough}
