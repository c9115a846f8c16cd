"""Options of the data, and the names and defaults of data sets."""

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

# Version of the choice of rows: see `split_by_person`, `limit_rows`.
PERSON_SPLIT_VERSION = 2
PLUGIN_GROUP = "tf_mtl_privacy.sources"
_FACE_TASKS = "gender=Male,age=Young,expression=Smiling"
_CELEBA_PRIVATE_LABEL = "attributes:Eyeglasses,Narrow_Eyes,Bags_Under_Eyes"


@dataclasses.dataclass(frozen=True)
class DatasetDefaults:
    """Defaults and properties of a data set, known without importing its source.

    Attributes:
        tasks: tasks if --tasks is empty, as name=attribute[,name=attribute]; empty if there are
            no usual ones.
        private_label: private label if --private_label is empty.
        crop: what --crop=auto means.
        needs_data_dir: whether --data_dir must be given.
        needs_tensorflow: whether its source imports TensorFlow.
        evaluation_only: whether it has no training rows and no private label.
        takes_name: whether --dataset is KIND:NAME, such as tfds:celeb_a.
    """

    tasks: str = ""
    private_label: str = "none"
    crop: str = "center"
    needs_data_dir: bool = True
    needs_tensorflow: bool = False
    evaluation_only: bool = False
    takes_name: bool = False


# Value of --dataset (or its part before a colon) -> defaults. `data.sources.base.register_source`
# adds to it.
DATASETS = {
    "synthetic_faces": DatasetDefaults(
        "gender=gender,age=age,expression=expression", "iris", needs_data_dir=False
    ),
    "celeba": DatasetDefaults(_FACE_TASKS, _CELEBA_PRIVATE_LABEL),
    "lfw": DatasetDefaults(_FACE_TASKS, crop="inner", evaluation_only=True),
    "csv": DatasetDefaults(),
    "tfds": DatasetDefaults(needs_tensorflow=True, takes_name=True),
    "tfds:celeb_a": DatasetDefaults(
        _FACE_TASKS, _CELEBA_PRIVATE_LABEL, needs_tensorflow=True, takes_name=True
    ),
}


def dataset_defaults(dataset: str) -> DatasetDefaults:
    """Returns the defaults of a data set.

    A name that is not registered is looked up among the entry points of the group
    `tf_mtl_privacy.sources` of installed packages; loading one registers its source.

    Args:
        dataset: value of --dataset.

    Raises:
        UsageError: there is no such data set.
    """
    kind, colon, name = dataset.partition(":")
    if kind not in DATASETS:
        from importlib.metadata import entry_points

        for entry in entry_points(group=PLUGIN_GROUP, name=kind):
            entry.load()
    defaults = DATASETS.get(dataset) or DATASETS.get(kind)
    if defaults is None or defaults.takes_name != bool(colon and name):
        raise UsageError(f"--dataset={dataset}: expected one of {', '.join(dataset_names())}")
    return defaults


def dataset_names() -> tuple[str, ...]:
    """Returns the accepted values of --dataset, with NAME for a part to fill in."""
    return tuple(
        f"{kind}:NAME" if defaults.takes_name else kind
        for kind, defaults in DATASETS.items()
        if ":" not in kind
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Data set, rows, labels, and size of the pictures."""

    dataset: str = option(
        "synthetic_faces",
        f"Data set: {', '.join(dataset_names())}, or the name of a registered source.",
    )
    data_dir: str = option("", "Folder of the data set, in its official layout.")
    cache_dir: str = option("", "Folder of prepared stores; empty means ~/.cache/tf_mtl_privacy.")
    image_size: int = option(64, "Height and width of the images, in pixels.", low=32, high=512)
    crop: str = option(
        "auto",
        "Part of the picture to keep: 'center' is the largest centred square, 'inner' the centred "
        "square of 3/4 of that side, 'none' keeps the whole picture. 'auto' is the data set's "
        "default: 'inner' for lfw, which shows faces at CelebA's scale, else 'center'.",
        choices=("auto", "center", "inner", "none"),
    )
    tasks: str = option(
        "", "Tasks as name=attribute[,name=attribute]; empty means the data set's default."
    )
    private_label: str = option(
        "",
        "Private label to hide: 'identity', 'iris' (synthetic_faces), 'attributes:A,B' (joint code "
        "of binary attributes), the name of another attribute, or 'none'; empty means the data "
        "set's default.",
    )
    bins: str = option(
        "",
        "Bins a numeric attribute into classes: attribute=EDGE:EDGE[,attribute=...]. For example, "
        "years=18:40 gives 'below 18', '18 to 40' (excluding 40) and '40 and above'.",
    )
    class_order: str = option(
        "",
        "Order of an attribute's classes, instead of the order of their names or numbers: "
        "attribute=CLASS:CLASS[,attribute=...], each class once.",
    )
    num_identities: int = option(
        100, "With identity labels: number of people; those with most images are chosen.", low=2
    )
    identity_holdout: float = option(
        0.2,
        "With identity labels: share of each person's images kept for testing.",
        above=0,
        high=0.5,
    )
    train_rows: int = option(0, "Rows to train on; 0 means all.", low=0)
    validation_rows: int = option(0, "Rows to validate on; 0 means all.", low=0)
    test_rows: int = option(0, "Rows to test on; 0 means all.", low=0)
    data_seed: int = option(0, "Seed of synthetic faces and of splits.", low=0)
    split_version: int = option(
        PERSON_SPLIT_VERSION,
        "How --private_label=identity and --train_rows choose rows: 2 by a hash of each row's own "
        "name; 1 by a permutation of all rows, as in runs made before this option existed. A run "
        "saves it, so it need not be given.",
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
        "Faces to train on: the training stream, or the stream reserved for a public backbone, "
        "which no other run uses.",
        choices=("train", "backbone"),
    )
    synthetic_correlation: float = option(
        0.0, "Share of synthetic faces with an iris class tied to their gender.", low=0, high=1
    )
    max_damaged: float = option(
        0.01, "Share of damaged or missing images above which preparing stops.", low=0, high=1
    )

    def __post_init__(self) -> None:
        check_options(self)
        defaults = dataset_defaults(self.dataset)
        if self.image_size % 8:
            raise UsageError(f"--image_size={self.image_size}: expected a multiple of 8")
        if self.dataset == "synthetic_faces" and self.image_size > 128:
            raise UsageError(
                f"--image_size={self.image_size}: synthetic_faces have 32 to 128 pixels"
            )
        if defaults.needs_data_dir and not self.data_dir:
            raise UsageError(f"--dataset={self.dataset} needs --data_dir=FOLDER")
        if defaults.evaluation_only and self.private_label not in ("", "none"):
            raise UsageError(
                f"--private_label={self.private_label}: {self.dataset} has no private label and is "
                "for evaluation only; train on other data, then run python -m "
                f"tf_mtl_privacy.evaluate --run_dir=RUN_DIR --dataset={self.dataset} "
                "--data_dir=FOLDER"
            )
        if self.dataset.startswith("tfds:celeb_a") and self.private_label == "identity":
            raise UsageError(
                "--private_label=identity: tfds:celeb_a has no identities; use --dataset=celeba "
                "with identity_CelebA.txt"
            )
        if not self.effective_tasks:
            raise UsageError(
                f"--tasks=: --dataset={self.dataset} has no default tasks; "
                "give name=attribute[,...]"
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
                    f"--tasks={task}={name}: {name} is part of --private_label="
                    f"{self.effective_private_label}; it cannot be both a task and private"
                )

    @property
    def effective_tasks(self) -> str:
        """The tasks as given, or the data set's default."""
        return self.tasks or dataset_defaults(self.dataset).tasks

    @property
    def effective_private_label(self) -> str:
        """The private label as given, or the data set's default."""
        return self.private_label or dataset_defaults(self.dataset).private_label

    @property
    def effective_crop(self) -> str:
        """'center', 'inner' or 'none': the crop as given, or the data set's default."""
        return dataset_defaults(self.dataset).crop if self.crop == "auto" else self.crop

    @property
    def is_evaluation_only(self) -> bool:
        """True if the data set has no training rows."""
        return dataset_defaults(self.dataset).evaluation_only

    @property
    def private_attributes(self) -> tuple[str, ...]:
        """The attributes of the private label; empty for 'identity' and 'none'."""
        kind = self.effective_private_label
        if kind in ("identity", "none"):
            return ()
        return tuple(kind.removeprefix("attributes:").split(","))

    @property
    def task_attributes(self) -> dict[str, str]:
        """The tasks as task name -> attribute name, in order."""
        return parse_tasks(self.effective_tasks)


def as_recorded(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the saved data options of a run, with `split_version` added for older runs.

    A complete section without `split_version` was written by an older version; if its options
    choose among rows, they did so by version 1. In an incomplete section, absent options take
    their defaults.
    """
    is_whole = {"dataset", "data_seed", "identity_holdout"} <= set(values)
    limits = ("train_rows", "validation_rows", "test_rows")
    chooses = values.get("dataset") != "synthetic_faces" and (
        values.get("private_label") == "identity" or any(values.get(name) for name in limits)
    )
    return ({"split_version": 1} if is_whole and chooses else {}) | dict(values)
