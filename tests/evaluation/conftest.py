"""A tiny data set and an untrained model."""

import keras
import numpy as np
import pytest

from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.models.bundle import Bundle

CLASSES = {"gender": ("female", "male"), "age": ("young", "middle", "old")}
PRIVATE = ("blue", "green", "grey", "brown")


@pytest.fixture(scope="session")
def dataset():
    rng = np.random.default_rng(0)
    n = 61
    labels = {name: rng.integers(-1, len(c), n) for name, c in CLASSES.items()}
    return Dataset.from_arrays(
        rng.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8),
        labels,
        rng.integers(-1, len(PRIVATE), n),
        split=np.repeat([0, 1, 2], [20, 10, 31]),
        task_classes=CLASSES,
        private_classes=PRIVATE,
    )


@pytest.fixture(scope="session")
def bundle():
    def layer(kind, seed, *args, **kwargs):
        start = keras.initializers.GlorotUniform(seed=seed)
        return kind(*args, kernel_initializer=start, **kwargs)

    image = keras.Input((32, 32, 3))
    cells = layer(keras.layers.Conv2D, 1, 8, 4, strides=4, activation="relu")(image)
    features = keras.Input((8, 8, 8))
    flat = keras.layers.Flatten()(features)
    business = {
        name: layer(keras.layers.Dense, 2 + place, len(classes), name=name)(flat)
        for place, (name, classes) in enumerate(CLASSES.items())
    }
    private = layer(keras.layers.Dense, 7, len(PRIVATE))(flat)
    grown = keras.layers.UpSampling2D(4)(features)
    restored = layer(keras.layers.Conv2D, 8, 3, 1, activation="sigmoid")(grown)
    return Bundle(
        keras.Model(image, cells),
        keras.Model(features, business),
        keras.Model(features, private),
        keras.Model(features, restored),
    )
