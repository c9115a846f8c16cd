"""Which frozen backbones may be called public, and how that is said."""

import dataclasses

import pytest

from tests.models.run_folders import config_of, described_run
from tf_mtl_privacy.config import Config, DataConfig, ModelConfig, PrivacyConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.backbone import public_source

PEOPLE = {"private_label": "identity", "num_identities": 5}
DRAWN = "an encoder trained on synthetic faces, which are drawn and of nobody"


def own_config(backbone="", **data):
    model = {"backbone": str(backbone)} if backbone else {}
    return Config(
        data=DataConfig(**{"image_size": 32} | data),
        model=ModelConfig(**({"encoder_weights": "none"} | model)),
    )


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        ({}, {}),
        ({}, {"synthetic_shift": "all", "train_rows": 7}),
        ({}, {"dataset": "celeba", "data_dir": "x"}),
        ({}, {"dataset": "csv", "data_dir": "x", "tasks": "gender=g", "private_label": "hat"}),
        ({"synthetic_stream": "train", "data_seed": 1}, {}),
        ({"data_seed": 1} | PEOPLE, {}),
        ({"data_seed": 1}, PEOPLE),
        (PEOPLE, {"dataset": "celeba", "data_dir": "x"}),
        ({"synthetic_stream": "train"}, {"dataset": "celeba", "data_dir": "x"}),
        ({"synthetic_stream": "train"}, {"synthetic_stream": "backbone"}),
    ],
)
def test_drawn_faces_that_are_not_the_runs_own_are_public(tmp_path, theirs, own):
    backbone = described_run(tmp_path, config_of(data=theirs))
    assert public_source(own_config(backbone, **own)) == DRAWN


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        ({"synthetic_stream": "train"}, {}),
        ({"synthetic_stream": "train", "train_rows": 3}, {"train_rows": 5}),
        # The same faces in other light: still what the run trains on.
        ({"synthetic_stream": "train"}, {"synthetic_shift": "all"}),
        ({"synthetic_stream": "train", "data_seed": 4}, {"data_seed": 4}),
        ({}, {"synthetic_stream": "backbone"}),
        # The pictures are others, the people are not.
        (PEOPLE, PEOPLE),
        (PEOPLE, {}),
        ({}, PEOPLE),
    ],
)
def test_the_runs_own_faces_or_people_are_not_public(tmp_path, theirs, own):
    backbone = described_run(tmp_path, config_of(data=theirs))
    with pytest.raises(UsageError) as error:
        public_source(own_config(backbone, **own))
    assert str(error.value) == (
        f"--backbone={backbone}: was trained on the faces that this run trains on; train it with "
        "--synthetic_stream=backbone or another --data_seed"
    )


@pytest.mark.parametrize(
    ("dataset", "options"),
    [("celeba", {}), ("csv", {"tasks": "gender=g", "private_label": "hat"})],
)
@pytest.mark.parametrize("own", [{}, {"dataset": "celeba", "data_dir": "x"}])
def test_photographs_are_not_public(tmp_path, dataset, options, own):
    data = {"dataset": dataset, "data_dir": "x"} | options
    backbone = described_run(tmp_path, config_of(data=data))
    with pytest.raises(UsageError, match=f"was trained on {dataset}, so its weights are not publ"):
        public_source(own_config(backbone, **own))


@pytest.mark.parametrize("start", [{"encoder_weights": "some.weights.h5"}, {"backbone": "other"}])
def test_a_backbone_that_started_from_who_knows_what_is_not_public(tmp_path, start):
    backbone = described_run(tmp_path, config_of(**start))
    with pytest.raises(UsageError, match=f"--backbone={backbone}: itself started from other weig"):
        public_source(own_config(backbone))


def test_imagenet_weights_are_public(tmp_path):
    theirs = config_of(size=64, encoder="mobilenet_v2", encoder_weights="imagenet")
    assert public_source(own_config(described_run(tmp_path, theirs))) == DRAWN
    model = ModelConfig(encoder="mobilenet_v2", encoder_weights="imagenet")
    own = dataclasses.replace(own_config(image_size=64), model=model)
    assert public_source(own) == "ImageNet weights"


def test_of_a_file_it_is_the_user_who_says_so():
    model = ModelConfig(encoder_weights="/some/where/mine.weights.h5")
    own = dataclasses.replace(own_config(), model=model)
    assert public_source(own) == "the file mine.weights.h5, which you say is public"


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(UsageError, match=f"--backbone={tmp_path}: is not a run folder"):
        public_source(own_config(tmp_path))


EVERYTHING = PrivacyConfig(dp_scope="all")


def test_everything_private_needs_a_backbone():
    with pytest.raises(UsageError, match=r"--dp_scope=all needs a public backbone: give --backbo"):
        Config(privacy=EVERYTHING)


@pytest.mark.parametrize("model", ["mtl_adv", "stl"])
def test_everything_private_needs_a_model_with_dp(model):
    train = dataclasses.replace(Config().train, model=model)
    with pytest.raises(UsageError, match=f"--dp_scope=all: --model={model} has no DP-SGD; give"):
        Config(model=ModelConfig(backbone="b"), train=train, privacy=EVERYTHING)


def test_one_start_only():
    with pytest.raises(UsageError, match=r"--backbone=b: .*leave out --encoder_weights=w\.h5"):
        ModelConfig(backbone="b", encoder_weights="w.h5")


def test_a_random_backbone_is_not_frozen():
    with pytest.raises(UsageError, match="--freeze_backbone needs --backbone or --encoder_weights"):
        ModelConfig(freeze_backbone=True)


@pytest.mark.parametrize("start", [{"backbone": "b"}, {"encoder_weights": "w.weights.h5"}])
def test_with_a_start_the_backbone_can_be_frozen(start):
    assert not Config(model=ModelConfig(**start)).freezes_backbone
    assert Config(model=ModelConfig(**start, freeze_backbone=True)).freezes_backbone
    assert Config(model=ModelConfig(**start), privacy=EVERYTHING).freezes_backbone
