"""A run of an untrained network on few faces, and a process that attacks it and kills itself."""

import dataclasses
import os
import signal
import sys
import types
from pathlib import Path

import numpy as np

from tests.fakes.folders import write_celeba
from tests.fakes.pictures import encoded
from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import synthetic_faces
from tf_mtl_privacy.data.opening import open_dataset
from tf_mtl_privacy.models.bundle import build_bundle

TASKS = {"gender": 2, "age": 4, "expression": 2}
# Attributes of CelebA whose joint code is the private label, and those that are the tasks.
CODE = ("Eyeglasses", "Narrow_Eyes", "Bags_Under_Eyes")
NAMED = {"gender": "Male", "age": "Young", "expression": "Smiling"}


def untrained_run(folder, data=None, removal=None):
    """What `load_run` gives of a run folder, with an untrained network."""
    config = tiny_config("mtl_adv", removal=removal)
    if data is None:
        data = dataclasses.replace(config.data, cache_dir=str(Path(folder).parent / "cache"))
    config = dataclasses.replace(config, data=data)
    dataset = open_dataset(data)
    counts = {task: len(names) for task, names in dataset.task_classes.items()}
    return types.SimpleNamespace(
        config=config,
        task_classes=dataset.task_classes,
        private_classes=dataset.private_classes,
        bundle=build_bundle(config, counts, len(dataset.private_classes)),
        single_task={},
        data_fingerprint=dataset.fingerprint,
        status={"gates": {}, "stop_rule": None, "training": None, "dp": None},
        folder=Path(folder),
        run_dir=Path(folder),
    )


def write_drawn_celeba(root, rows, size=32):
    """A folder in CelebA's layout with drawn faces: their hue says the code, more or less.

    Args:
        root: the folder to be made.
        rows: pictures of train, validation and test.
        size: pixels along a side.

    Returns:
        The options of the data.
    """
    count, rng = sum(rows), np.random.default_rng(3)
    truth = write_celeba(root, count, people=count)
    faces = synthetic_faces.render(5, "folder", np.arange(count), size=size, shift="none")
    code = rng.integers(0, 8, count)
    names = truth["tables"]["list_attr_celeba.txt"].read_text().splitlines()[1].split()
    values = np.zeros((count, 40), int)
    values[:, names.index("Male")] = faces.gender
    values[:, names.index("Young")] = faces.age >= 2
    values[:, names.index("Smiling")] = faces.expression
    for bit, name in enumerate(CODE):
        values[:, names.index(name)] = code >> bit & 1
    # A faint pattern over the whole picture for each class: many rows are needed to learn it.
    pattern = rng.choice([-1.0, 1.0], (8, size // 4, size // 4, 3)).repeat(4, 1).repeat(4, 2)
    images = np.clip(
        faces.image + 9.0 * pattern[code] + rng.normal(0, 24, faces.image.shape), 0, 255
    )
    for name, image in zip(truth["names"], images.astype(np.uint8), strict=True):
        (truth["images"] / name).write_bytes(encoded(image, "PNG"))

    def table(name, lines):
        truth["tables"][name].write_text("\n".join(lines) + "\n")

    signs = [" ".join(f"{2 * v - 1:2d}" for v in row) for row in values]
    rows_of = [f"{name} {line}" for name, line in zip(truth["names"], signs, strict=True)]
    table("list_attr_celeba.txt", [str(count), " ".join(names), *rows_of])
    split = np.repeat([0, 1, 2], rows)
    parts = [f"{name} {part}" for name, part in zip(truth["names"], split, strict=True)]
    table("list_eval_partition.txt", parts)
    return DataConfig(
        dataset="celeba",
        data_dir=str(root),
        cache_dir=str(Path(root).parent / "cache"),
        image_size=size,
        private_label=f"attributes:{','.join(CODE)}",
        tasks=",".join(f"{task}={name}" for task, name in NAMED.items()),
    )


def main(folder: str, setting: str, count: str) -> None:
    """Attacks the run in `folder`; SIGKILL in place of the attacker after `count` of them."""
    from tests.evaluation.probes.conftest import TINY
    from tf_mtl_privacy.evaluation.probes import attack, saved
    from tf_mtl_privacy.reporting.evaluate_run import evaluate_run
    from tf_mtl_privacy.training import saved_run

    run, make, sent = untrained_run(folder), attack._reading, []
    saved_run.load_run = lambda _: run
    names = ("features", "features_again", "images", "pixels", "untrained", "logits", "planted")
    who = dict.fromkeys(names, ("knn_whitened", "logistic_standardised"))
    saved.SETTINGS[setting] = dataclasses.replace(saved.SETTINGS[setting], **TINY, **who)

    def reading(name, *rest):
        if len(sent) == int(count):
            os.kill(os.getpid(), signal.SIGKILL)
        sent.append(name)
        return make(name, *rest)

    attack._reading = reading
    evaluate_run(folder, probe=setting)
    print(len(sent))


if __name__ == "__main__":
    main(*sys.argv[1:])
