"""A small tensorflow-datasets data set on disk, with the feature types of celeb_a."""

from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from tests.fakes.pictures import picture

SIZES = {"train": 9, "validation": 4, "test": 5}
MOODS = ["calm", "glad", "sad"]
YEARS = (30, 20, 50, -1)


def example(split: str, k: int) -> dict:
    """Creates example `k` of a split: booleans in a nested feature, and a class label."""
    seed = 1000 * list(SIZES).index(split) + k
    return {
        "image": picture(seed),
        "attributes": {"Male": seed % 2 == 0, "Smiling": seed % 3 == 0},
        "mood": seed % 3,
    }


def write(
    data_dir: Path,
    name: str = "fake_faces",
    sizes: dict[str, int] | None = None,
    numbers: bool = False,
) -> None:
    """Writes the data set in the layout of tensorflow-datasets.

    `numbers` adds integers: `years` (20, 30, 50 or -1 by row), `info/room` (a byte), `row`.
    """
    integers = {"years": np.int64, "info": {"room": np.uint8}, "row": np.int32}
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(218, 178, 3), encoding_format="png"),
            "attributes": {"Male": np.bool_, "Smiling": np.bool_},
            "mood": tfds.features.ClassLabel(names=MOODS),
            **(integers if numbers else {}),
        }
    )

    def numbered(k: int) -> dict:
        return {"years": YEARS[k % 4], "info": {"room": k % 2 + 7}, "row": 3 * k}

    def dataset(split: str, count: int) -> tf.data.Dataset:
        rows = [example(split, k) | (numbered(k) if numbers else {}) for k in range(count)]
        return tf.data.Dataset.from_generator(
            lambda: iter(rows), output_signature=features.get_tensor_spec()
        )

    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=features,
        split_datasets={k: dataset(k, n) for k, n in (sizes or SIZES).items()},
        data_dir=str(data_dir),
        disable_shuffling=True,
    )
