"""Which rows, which labels, at which size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tf_mtl_privacy.config.options import (
    check_options,
    option,
    parse_bins,
    parse_class_order,
    parse_tasks,
)
from tf_mtl_privacy.errors import UsageError

# How images of people, and a part of the rows, are chosen: see `split_by_person`, `limit_rows`.
PERSON_SPLIT_VERSION = 2
DATASETS = ("synthetic_faces", "celeba", "lfw", "csv", "tfds:NAME")
# A task is written name=attribute; these are used when --tasks is empty.
DEFAULT_TASKS = {
    "synthetic_faces": "gender=gender,age=age,expression=expression",
    "celeba": "gender=Male,age=Young,expression=Smiling",
    "tfds:celeb_a": "gender=Male,age=Young,expression=Smiling",
    "lfw": "gender=Male,age=Young,expression=Smiling",
}
DEFAULT_PRIVATE_LABEL = {
    "synthetic_faces": "iris",
    "celeba": "attributes:Eyeglasses,Narrow_Eyes,Bags_Under_Eyes",
    "tfds:celeb_a": "attributes:Eyeglasses,Narrow_Eyes,Bags_Under_Eyes",
}


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Which rows, which labels, at which size."""

    dataset: str = option("synthetic_faces", "Data source: " + ", ".join(DATASETS) + ".")
    data_dir: str = option("", "Folder of the data set, in its official layout.")
    cache_dir: str = option(
        "", "Where prepared stores are kept; empty means ~/.cache/tf_mtl_privacy."
    )
    image_size: int = option(64, "Height and width of the images, in pixels.", low=32, high=512)
    crop: str = option(
        "auto",
        "Part of the picture to keep: 'center' is the largest centred square, 'inner' the centred "
        "square of 3/4 of that side, 'none' keeps the picture whole. 'auto' is the data set's "
        "usual: 'inner' for lfw, where it shows faces at the scale that they have in CelebA, else "
        "'center'.",
        choices=("auto", "center", "inner", "none"),
    )
    tasks: str = option(
        "", "Business tasks as name=attribute[,name=attribute]; empty means the data set's usual."
    )
    private_label: str = option(
        "",
        "What must not be read: 'identity', 'iris' (synthetic_faces), "
        "'attributes:A,B' (joint code of binary attributes), another attribute's name, or 'none'; "
        "empty means the data set's usual.",
    )
    bins: str = option(
        "",
        "Makes few classes of an attribute of numbers: attribute=EDGE:EDGE[,attribute=...]; "
        "years=18:40 gives 'below 18', '18 to 40' (40 is not in it) and '40 and above'.",
    )
    class_order: str = option(
        "",
        "Order of an attribute's classes, which is usually that of their names or numbers: "
        "attribute=CLASS:CLASS[,attribute=...], every class once.",
    )
    num_identities: int = option(
        100, "With identity labels: the people with most images that are told apart.", low=2
    )
    identity_holdout: float = option(
        0.2,
        "With identity labels: share of each person's images kept for testing.",
        above=0,
        high=0.5,
    )
    train_rows: int = option(0, "Rows to train on; 0 means all there are.", low=0)
    validation_rows: int = option(0, "Rows to validate on; 0 means all.", low=0)
    test_rows: int = option(0, "Rows to test on; 0 means all.", low=0)
    data_seed: int = option(0, "Seed of synthetic faces and of splits.", low=0)
    split_version: int = option(
        PERSON_SPLIT_VERSION,
        "How --private_label=identity and --train_rows choose rows: 2 by a hash of each row's own "
        "name; 1 by a permutation of all rows, as in runs made before this option. It is kept "
        "with a run and need not be given.",
        low=1,
        high=PERSON_SPLIT_VERSION,
    )
    synthetic_shift: str = option(
        "none",
        "Shift of the synthetic faces, for cross-dataset tests.",
        choices=("none", "colours", "light", "blur", "backgrounds", "poses", "all"),
    )
    synthetic_stream: str = option(
        "train",
        "Faces to train on: those of training, or those set aside for a public backbone, which "
        "no other run sees.",
        choices=("train", "backbone"),
    )
    synthetic_correlation: float = option(
        0.0, "Share of synthetic faces whose iris follows their gender.", low=0, high=1
    )
    max_damaged: float = option(
        0.01, "Share of damaged or missing images above which preparing stops.", low=0, high=1
    )

    def __post_init__(self) -> None:
        check_options(self)
        known = ("synthetic_faces", "celeba", "lfw", "csv")
        is_tfds = self.dataset.startswith("tfds:") and len(self.dataset) > len("tfds:")
        if self.dataset not in known and not is_tfds:
            raise UsageError(f"--dataset={self.dataset}: expected one of {', '.join(DATASETS)}")
        if self.image_size % 8:
            raise UsageError(f"--image_size={self.image_size}: expected a multiple of 8")
        if self.dataset == "synthetic_faces" and self.image_size > 128:
            raise UsageError(
                f"--image_size={self.image_size}: synthetic_faces are drawn from 32 to 128 pixels"
            )
        if self.dataset != "synthetic_faces" and not self.data_dir:
            raise UsageError(f"--dataset={self.dataset} needs --data_dir=FOLDER")
        if self.dataset == "lfw" and self.private_label not in ("", "none"):
            raise UsageError(
                f"--private_label={self.private_label}: lfw has no private label and is for "
                "evaluation only; train on other data, then run python -m tf_mtl_privacy.evaluate "
                "--run_dir=RUN_DIR --dataset=lfw --data_dir=FOLDER"
            )
        if self.dataset.startswith("tfds:celeb_a") and self.private_label == "identity":
            raise UsageError(
                "--private_label=identity: tfds:celeb_a has no identities; use --dataset=celeba "
                "with identity_CelebA.txt"
            )
        if not self.effective_tasks:
            raise UsageError(
                f"--tasks=: --dataset={self.dataset} has no usual tasks; give name=attribute[,...]"
            )
        parse_tasks(self.effective_tasks)
        parse_bins(self.bins)
        parse_class_order(self.class_order)
        self._check_private_label()

    def _check_private_label(self) -> None:
        if self.effective_private_label.startswith("attributes:"):
            names = self.effective_private_label.removeprefix("attributes:").split(",")
            if not all(names) or len(set(names)) != len(names) or len(names) > 8:
                raise UsageError(
                    f"--private_label={self.private_label}: expected attributes:A,B with one to "
                    "eight different attribute names"
                )
        for task, name in self.task_attributes.items():
            if name in self.private_attributes:
                raise UsageError(
                    f"--tasks={task}={name}: {name} is also what --private_label="
                    f"{self.effective_private_label} hides; it cannot be both"
                )

    @property
    def effective_tasks(self) -> str:
        """The tasks as given, or the data set's usual ones."""
        return self.tasks or DEFAULT_TASKS.get(self.dataset, "")

    @property
    def effective_private_label(self) -> str:
        """The private label as given, or the data set's usual one."""
        return self.private_label or DEFAULT_PRIVATE_LABEL.get(self.dataset, "none")

    @property
    def effective_crop(self) -> str:
        """'center', 'inner' or 'none': the crop as given, or the data set's usual one."""
        usual = "inner" if self.dataset == "lfw" else "center"
        return usual if self.crop == "auto" else self.crop

    @property
    def private_attributes(self) -> tuple[str, ...]:
        """The attributes that make up the private label; none for 'identity' and 'none'."""
        kind = self.effective_private_label
        if kind in ("identity", "none"):
            return ()
        return tuple(kind.removeprefix("attributes:").split(","))

    @property
    def task_attributes(self) -> dict[str, str]:
        """Task name -> attribute name, in order."""
        return parse_tasks(self.effective_tasks)


def as_recorded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The saved data options of a run, with those that older versions did not write.

    A whole section without `split_version` is of a run whose rows, where options choose among
    them, were chosen by version 1. In a section with a few options only, absent ones have their
    defaults.
    """
    is_whole = {"dataset", "data_seed", "identity_holdout"} <= set(values)
    limits = ("train_rows", "validation_rows", "test_rows")
    chooses = values.get("dataset") != "synthetic_faces" and (
        values.get("private_label") == "identity" or any(values.get(name) for name in limits)
    )
    return ({"split_version": 1} if is_whole and chooses else {}) | dict(values)
