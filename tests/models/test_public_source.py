"""Frozen backbones that count as public, and the statement of it."""

import dataclasses

import pytest

from tests.models.run_folders import config_of, described_run
from tf_mtl_privacy.config import Config, DataConfig, LossConfig, ModelConfig, PrivacyConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.backbone import public_source

PEOPLE = {"private_label": "identity", "num_identities": 5}
# The first digits of the published SHA-256 of nothing at all, and of "abc" (FIPS 180-2, B.1).
OF_NOTHING, OF_ABC = "e3b0c44298fc1c14", "ba7816bf8f01cfea"
DRAWN = (
    "an encoder trained on synthetic faces, which show no real person (weights' SHA-256 "
    f"{OF_NOTHING})"
)


def own_config(backbone="", perceptual="hed", **data):
    model = {"backbone": str(backbone)} if backbone else {}
    return Config(
        data=DataConfig(**{"image_size": 32} | data),
        model=ModelConfig(**({"encoder_weights": "none"} | model)),
        loss=LossConfig(perceptual_weights=str(perceptual)),
    )


def abc_file(tmp_path, name="mine.weights.h5"):
    path = tmp_path / name
    path.write_bytes(b"abc")
    return path


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
def test_backbone_on_other_synthetic_faces_is_public(tmp_path, theirs, own):
    backbone = described_run(tmp_path, config_of(data=theirs))
    assert public_source(own_config(backbone, **own)) == DRAWN


@pytest.mark.parametrize(
    ("theirs", "own"),
    [
        ({"synthetic_stream": "train"}, {}),
        ({"synthetic_stream": "train", "train_rows": 3}, {"train_rows": 5}),
        # The same faces in other light are still the run's faces.
        ({"synthetic_stream": "train"}, {"synthetic_shift": "all"}),
        ({"synthetic_stream": "train", "data_seed": 4}, {"data_seed": 4}),
        ({}, {"synthetic_stream": "backbone"}),
        # Other images of the same people.
        (PEOPLE, PEOPLE),
        (PEOPLE, {}),
        ({}, PEOPLE),
    ],
)
def test_backbone_on_own_faces_or_people_is_refused(tmp_path, theirs, own):
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
def test_backbone_on_photographs_is_refused(tmp_path, dataset, options, own):
    data = {"dataset": dataset, "data_dir": "x"} | options
    backbone = described_run(tmp_path, config_of(data=data))
    with pytest.raises(UsageError, match=f"was trained on {dataset}, so its weights are not publ"):
        public_source(own_config(backbone, **own))


@pytest.mark.parametrize("start", [{"encoder_weights": "some.weights.h5"}, {"backbone": "other"}])
def test_backbone_started_from_unknown_weights_is_refused(tmp_path, start):
    backbone = described_run(tmp_path, config_of(**start))
    with pytest.raises(UsageError, match=f"--backbone={backbone}: started from other weig"):
        public_source(own_config(backbone))


def test_imagenet_weights_are_public(tmp_path):
    theirs = config_of(size=64, encoder="mobilenet_v2", encoder_weights="imagenet")
    assert public_source(own_config(described_run(tmp_path, theirs))) == DRAWN
    model = ModelConfig(encoder="mobilenet_v2", encoder_weights="imagenet")
    own = dataclasses.replace(own_config(image_size=64), model=model)
    assert public_source(own) == "ImageNet weights"


def with_file(path):
    return dataclasses.replace(own_config(), model=ModelConfig(encoder_weights=str(path)))


def test_weights_file_is_public_with_flag(tmp_path):
    said = f"the file mine.weights.h5 (SHA-256 {OF_ABC}), public by --public_weights"
    assert public_source(with_file(abc_file(tmp_path))) == said
    # The perceptual loss has frozen weights, too.
    backbone = described_run(tmp_path / "run", config_of())
    assert public_source(own_config(backbone, abc_file(tmp_path))) == f"{DRAWN}; {said}"
    (tmp_path / "run" / "models" / "encoder.weights.h5").write_bytes(b"abc")
    assert public_source(own_config(backbone)) == DRAWN.replace(OF_NOTHING, OF_ABC)


def test_missing_weights_file_is_named(tmp_path):
    with pytest.raises(UsageError, match=f"{tmp_path / 'none.h5'}: cannot be read: No such file"):
        public_source(with_file(tmp_path / "none.h5"))


@pytest.mark.parametrize("given", [False, True])
def test_backbone_on_passed_rows_is_refused(tmp_path, given):
    # Its configuration still says synthetic_faces, which is the default.
    backbone = described_run(tmp_path, config_of(), source="")
    with pytest.raises(UsageError, match="was trained on rows passed from Python, so its weig"):
        public_source(own_config(backbone), given=given)


def test_backbone_without_labels_file_is_refused(tmp_path):
    backbone = described_run(tmp_path, config_of())
    (tmp_path / "labels.json").unlink()
    with pytest.raises(UsageError, match=f"--backbone={tmp_path}: .*labels.json"):
        public_source(own_config(backbone))


def test_public_source_of_passed_rows_ignores_configured_faces(tmp_path):
    backbone = described_run(tmp_path, config_of(data={"synthetic_stream": "train"}))
    assert public_source(own_config(backbone), given=True) == DRAWN
    with pytest.raises(UsageError, match="was trained on the faces that this run trains on"):
        public_source(own_config(backbone), given=False)


def test_backbone_with_own_perceptual_weights_is_refused(tmp_path):
    loss = LossConfig(perceptual_weights=str(abc_file(tmp_path)))
    theirs = dataclasses.replace(config_of(), loss=loss)
    backbone = described_run(tmp_path / "run", theirs)
    with pytest.raises(UsageError, match="started from other weights"):
        public_source(own_config(backbone))


def test_backbone_folder_without_run_is_refused(tmp_path):
    with pytest.raises(UsageError) as error:
        public_source(own_config(tmp_path))
    assert str(error.value) == (
        f"--backbone={tmp_path}: is not a run folder (no config.json); make one with "
        f"python -m tf_mtl_privacy.train --flagfile=backbone.cfg --run_dir={tmp_path}"
    )


EVERYTHING = PrivacyConfig(dp_scope="all")


def test_fully_private_config_without_backbone_is_refused():
    with pytest.raises(UsageError, match=r"--dp_scope=all needs a public backbone: give --backbo"):
        Config(privacy=EVERYTHING)


@pytest.mark.parametrize("model", ["mtl_adv", "stl"])
def test_fully_private_config_without_dp_model_is_refused(model):
    train = dataclasses.replace(Config().train, model=model)
    with pytest.raises(UsageError, match=f"--dp_scope=all: --model={model} has no DP-SGD; give"):
        Config(model=ModelConfig(backbone="b"), train=train, privacy=EVERYTHING)


@pytest.mark.parametrize(
    ("model", "loss", "refused"),
    [
        ({"encoder_weights": "w.weights.h5"}, {}, "--encoder_weights=w.weights.h5"),
        ({"backbone": "b"}, {"perceptual_weights": "v.h5"}, "--perceptual_weights=v.h5"),
        ({"backbone": "b"}, {"perceptual_weights": "none"}, ""),
        ({"backbone": "b"}, {"perceptual_weights": "hed"}, ""),
    ],
)
def test_weights_file_without_flag_is_refused(model, loss, refused):
    parts = {"model": ModelConfig(**model), "loss": LossConfig(**loss)}
    if refused:
        with pytest.raises(UsageError) as error:
            Config(**parts, privacy=EVERYTHING)
        assert str(error.value) == (
            f"{refused}: with --dp_scope=all a file needs --public_weights, which confirms that "
            "it was trained on public data only"
        )
    Config(**parts, privacy=PrivacyConfig(dp_scope="all", public_weights=True))
    # Nothing needs the flag if nothing is public.
    Config(**parts)
    if not refused:
        Config(**parts, privacy=EVERYTHING)


def test_config_with_two_initial_weights_is_refused():
    with pytest.raises(UsageError, match=r"--backbone=b: .*leave out --encoder_weights=w\.h5"):
        ModelConfig(backbone="b", encoder_weights="w.h5")


def test_frozen_random_backbone_is_refused():
    with pytest.raises(UsageError, match="--freeze_backbone requires --backbone or"):
        ModelConfig(freeze_backbone=True)


@pytest.mark.parametrize("start", [{"backbone": "b"}, {"encoder_weights": "w.weights.h5"}])
def test_frozen_backbone_with_initial_weights_is_accepted(start):
    assert not Config(model=ModelConfig(**start)).freezes_backbone
    assert Config(model=ModelConfig(**start, freeze_backbone=True)).freezes_backbone
    said = dataclasses.replace(EVERYTHING, public_weights=True)
    assert Config(model=ModelConfig(**start), privacy=said).freezes_backbone
