"""A removal method from outside the package: registered, trained with, recorded."""

import json

import keras
import numpy as np
import pytest

from tests.models.run_folders import config_of, finished_run
from tests.training.tiny import tiny_arrays, tiny_config
from tests.training.tiny_private import all_private_config
from tf_mtl_privacy import removal
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.reporting.results import removal_summary
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.saved_run import load_run
from tf_mtl_privacy.types import Phase

EPOCHS, STEPS = 2, 3


class Dropped(keras.layers.Layer):
    """Sets to 0 the channels in which the weight `keep` `[c]` is 0."""

    def build(self, input_shape):
        self.keep = self.add_weight(
            name="keep", shape=(input_shape[-1],), initializer="ones", trainable=False
        )

    def call(self, inputs):
        return inputs * self.keep


class DropFitting(removal.Fitting):
    """Counts in a phase of its own; drops the first channel when it is refitted."""

    def __init__(self, layer):
        super().__init__()
        self.layer, self.refits = layer, 0
        self.counter = keras.Variable(0.0, name="counter")
        self.networks = {"toy_counter": [self.counter]}

    def phase(self, name, epochs):
        def step(inputs):
            self.counter.assign_add(1.0)
            return {"toy_loss": inputs}

        return Phase(name, epochs, STEPS, lambda *_: 0.5, step, lambda: {"toy_accuracy": 0.5})

    def refit(self):
        self.refits += 1
        self.layer.keep.assign([0.0] + [1.0] * (self.layer.keep.shape[0] - 1))


class DropMethod(removal.RemovalMethod):
    name = "drop"

    def is_on(self, options):
        return True

    def fitted_to(self, options):
        return removal.TRAIN

    def label_access(self, options):
        return "the toy reads the labels of training rows"

    def record(self, options, *, on):
        return {"dropped_channels": int(on)}

    def on_features(self, features, options, private_classes):
        return Dropped(name="adapter_drop")(features)

    def phases(self, options):
        return {"toy": EPOCHS}

    def fitting(self, config, dataset, encoder):
        self.made = DropFitting(encoder.get_layer("adapter_drop"))
        return self.made


@pytest.fixture
def method():
    removal.register(DropMethod())
    yield removal.registered()[-1]
    removal.unregister("drop")


@pytest.mark.usefixtures("untraced_here")
def test_registered_method_is_built_fitted_and_recorded(tmp_path, method):
    config = tiny_config("mtl_adv", business_epochs=0, restorer_epochs=0, early_gates=False)
    run = fit(config, tiny_arrays(), run_dir=tmp_path)
    # Fitted before the joint phase, and after each of its epochs.
    assert method.made.refits == 1 + 2
    assert float(method.made.counter) == EPOCHS * STEPS
    for loaded in (run, load_run(tmp_path)):
        images = np.random.default_rng(0).random((4, 32, 32, 3)).astype(np.float32)
        features = np.array(loaded.bundle.encoder(images, training=False))
        assert not features[..., 0].any() and features[..., 1:].all()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [line["phase"] for line in lines] == [
        *["toy"] * EPOCHS,
        *["discriminator"] * 2,
        *["adversarial"] * 2,
    ]
    assert lines[0]["toy_loss"] == lines[0]["validation_toy_accuracy"] == 0.5
    access = run.status["dp"]["unaccounted_label_access"]
    assert "the toy reads the labels of training rows" in access
    assert removal_summary(config)["dropped_channels"] == 1
    assert removal_summary(tiny_config("mtl_dp"))["dropped_channels"] == 0


def test_registered_method_is_off_without_game(method):
    assert method in removal.methods(tiny_config("mtl_adv"))
    assert removal.methods(tiny_config("mtl_dp")) == removal.methods(tiny_config("stl")) == ()


def test_method_fitted_to_training_rows_is_refused_if_everything_is_private(tmp_path, method):
    finished_run(tmp_path / "backbone", config_of(), {"gender": 2}, 3)
    config = all_private_config(tmp_path, tmp_path / "backbone")
    with pytest.raises(UsageError, match="--dp_scope=all: the removal method 'drop' is fitted to"):
        fit(config, tiny_arrays(), run_dir=tmp_path / "run")


@pytest.mark.parametrize("name", ["mask", ""])
def test_register_refuses_taken_or_empty_name(name):
    method = DropMethod()
    method.name = name
    with pytest.raises(ValueError, match="expected a new name"):
        removal.register(method)
    assert [method.name for method in removal.registered()] == ["mask", "erasure", "noise"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"mask": "nothing", "erasure": "nothing", "noise": "nothing"}),
        (
            {"mask": "learned", "erasure": "leace", "feature_noise": 0.1},
            {"mask": "public", "erasure": "public", "noise": "nothing"},
        ),
        (
            {
                "mask": "learned",
                "region_labels": "train",
                "erasure": "leace",
                "erasure_labels": "train",
            },
            {"mask": "train", "erasure": "train", "noise": "nothing"},
        ),
    ],
)
def test_built_in_methods_state_their_fitting_data(options, expected):
    config = RemovalConfig(**options)
    methods = removal.registered()
    assert {method.name: method.fitted_to(config) for method in methods} == expected
    for method in methods:
        # Every method that reads labels states it.
        assert bool(method.label_access(config)) == (method.fitted_to(config) != removal.NOTHING)
