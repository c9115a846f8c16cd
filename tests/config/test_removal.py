"""Options of what removes information: ranges, and what does not go together."""

import json

import pytest

from tf_mtl_privacy.config import (
    Config,
    DataConfig,
    ModelConfig,
    PrivacyConfig,
    RemovalConfig,
    TrainConfig,
)
from tf_mtl_privacy.errors import UsageError

MASK = {"mask": "learned"}


def config(removal=MASK, model="mtl_adv", data=None, **sections):
    return Config(
        data=DataConfig(**(data or {})),
        train=TrainConfig(model=model),
        removal=RemovalConfig(**removal),
        **sections,
    )


def refused(message, make):
    with pytest.raises(UsageError, match=message) as error:
        make()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("mask", "painted", "--mask=painted"),
        ("mask_cell", 0, "--mask_cell=0"),
        ("mask_cell", 32, "--mask_cell=32"),
        ("mask_cell", 3, "--mask_cell=3: expected a power of two"),
        ("mask_cell", 12, "--mask_cell=12: expected a power of two"),
        ("mask_fill", "black", "--mask_fill=black"),
        ("mask_width", 3, "--mask_width=3"),
        ("mask_area_penalty", 0.0, "--mask_area_penalty=0.0"),
        ("region_labels", "test", "--region_labels=test"),
        ("region_rows", 63, "--region_rows=63"),
        ("region_epochs", -1, "--region_epochs=-1"),
        ("region_learning_rate", 0.0, "--region_learning_rate=0.0"),
        ("mask_warmup_steps", -1, "--mask_warmup_steps=-1"),
        ("feature_noise", -0.1, "--feature_noise=-0.1"),
        ("erasure", "inlp", "--erasure=inlp"),
    ],
)
def test_ranges(option, value, message):
    refused(message, lambda: RemovalConfig(**{option: value}))


@pytest.mark.parametrize("cell", [1, 2, 4, 8, 16])
def test_powers_of_two_are_cells(cell):
    assert RemovalConfig(mask_cell=cell).mask_cell == cell


def test_nothing_is_removed_by_default():
    removal = Config().removal
    assert not removal.has_mask and not removal.reads_public_faces
    assert (removal.feature_noise, removal.erasure) == (0.0, "none")


@pytest.mark.parametrize(
    ("removal", "expected"),
    [
        ({}, False),
        (MASK, True),
        (MASK | {"region_labels": "train"}, False),
        ({"erasure": "leace"}, True),
        ({"erasure": "leace", "erasure_labels": "train"}, False),
        (MASK | {"region_labels": "train", "erasure": "leace"}, True),
    ],
)
def test_who_reads_public_faces(removal, expected):
    assert RemovalConfig(**removal).reads_public_faces == expected


def test_a_model_without_the_game_has_no_removal():
    for model in ("mtl_adv", "mtl_adv_dp"):
        assert config(model=model).removal_in_force.has_mask
    for model in ("mtl_dp", "stl"):
        found = config(model=model)
        assert found.removal_in_force == RemovalConfig()
        assert found.removal.has_mask, "what was asked for is kept"


def test_it_stands_in_the_saved_configuration():
    found = config({**MASK, "mask_area_penalty": 2.5, "region_labels": "train"})
    assert Config.from_dict(json.loads(json.dumps(found.to_dict()))) == found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"dataset": "csv", "data_dir": "x", "tasks": "gender=g", "private_label": "identity"},
            "--region_labels=public: .*--dataset=csv give --region_labels=train",
        ),
        ({"dataset": "celeba", "data_dir": "x"}, "--dataset=celeba give --region_labels=train"),
        ({"private_label": "identity"}, "the same people are not public; give --region_labels="),
        ({"synthetic_stream": "backbone"}, "--synthetic_stream=backbone trains; give --region_l"),
    ],
)
def test_there_are_public_faces_for_synthetic_data_without_people_only(data, message):
    refused(message, lambda: config(data=data))
    # With labels of the run's own, or where the model has no removal, they are not needed.
    config(MASK | {"region_labels": "train"}, data=data)
    config(model="mtl_dp", data=data)


def test_with_everything_private_labels_are_not_read_without_noise():
    removal, flag = MASK | {"region_labels": "train"}, "region_labels"

    def everything(removal, model="mtl_adv_dp"):
        return Config(
            model=ModelConfig(backbone="a run"),
            train=TrainConfig(model=model),
            privacy=PrivacyConfig(dp_scope="all"),
            removal=RemovalConfig(**removal),
        )

    message = f"--dp_scope=all: --{flag}=train reads private labels without noise; give --{flag}="
    refused(message, lambda: everything(removal))
    assert everything(removal | {flag: "public"}).removal.reads_public_faces
    # Without the game there is no removal that could read them.
    everything(removal, "mtl_dp")
    # Nothing would fit an erasure, and it would be said to be there.
    for labels in ("public", "train"):
        erasure = {"erasure": "leace", "erasure_labels": labels}
        refused("--erasure=leace: is not refitted", lambda given=erasure: everything(given))
        everything(erasure, "mtl_dp")
