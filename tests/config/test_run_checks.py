"""Checks and notes across sections: removal, DP for everything, and odd choices."""

import dataclasses
import json

import pytest

from tests.training.tiny import EPOCHS, tiny_arrays, tiny_config
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.config import (
    Config,
    DataConfig,
    GameConfig,
    ModelConfig,
    PrivacyConfig,
    RemovalConfig,
    TrainConfig,
)
from tf_mtl_privacy.config.run import notes
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.training.fit import fit
from tf_mtl_privacy.training.validate_inputs import check_trainable

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
def test_removal_config_ranges(option, value, message):
    refused(message, lambda: RemovalConfig(**{option: value}))


@pytest.mark.parametrize("cell", [1, 2, 4, 8, 16])
def test_removal_config_accepts_powers_of_two_as_cells(cell):
    assert RemovalConfig(mask_cell=cell).mask_cell == cell


def test_removal_config_default_removes_nothing():
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
def test_reads_public_faces_by_options(removal, expected):
    assert RemovalConfig(**removal).reads_public_faces == expected


def test_removal_in_force_needs_the_game():
    for model in ("mtl_adv", "mtl_adv_dp"):
        assert config(model=model).removal_in_force.has_mask
    for model in ("mtl_dp", "stl"):
        found = config(model=model)
        assert found.removal_in_force == RemovalConfig()
        assert found.removal.has_mask, "what was asked for is kept"


def test_removal_config_round_trip_through_json():
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
def test_config_public_faces_need_synthetic_data_without_people(data, message):
    refused(message, lambda: config(data=data))
    # With labels of the run's own, or where the model has no removal, they are not needed.
    config(MASK | {"region_labels": "train"}, data=data)
    config(model="mtl_dp", data=data)


def test_dp_scope_all_private_labels_need_noise():
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


CHOICES = [("checkpoint_selection", "best", "last"), ("check_epochs", 2, 0)]


def everything(game=(), data=(), scope="all"):
    return Config(
        data=DataConfig(**dict(data)),
        model=ModelConfig(backbone="a run"),
        privacy=PrivacyConfig(dp_scope=scope),
        game=GameConfig(**dict(game)),
    )


@pytest.mark.parametrize(("flag", "value", "plain"), CHOICES)
def test_dp_scope_all_attackers_of_training_rows_choose_no_weights(flag, value, plain):
    celeba = {"dataset": "celeba", "data_dir": "x"}
    with pytest.raises(UsageError) as error:
        everything({flag: value}, celeba)
    assert str(error.value) == (
        f"--{flag}={value}: with --dp_scope=all and --dataset=celeba the released weights would "
        f"depend on an attacker trained without noise on training rows; give --{flag}={plain}"
    )
    everything({}, celeba)
    everything({flag: value}, celeba, scope="discriminator")
    # Its rows are drawn for it there.
    everything({flag: value})


@pytest.mark.parametrize(("flag", "value", "plain"), CHOICES)
def test_dp_scope_all_attackers_of_given_rows_choose_no_weights(flag, value, plain):
    config, rows = everything({flag: value}), tiny_arrays()
    with pytest.raises(UsageError, match=f"--{flag}={value}: .* rows passed from Python"):
        check_trainable(config, rows)
    check_trainable(everything(), rows)
    check_trainable(config, dataclasses.replace(rows, name="synthetic_faces"))


ALL = {"mask": "learned", "erasure": "leace", "feature_noise": 0.5}


def of(model, removal=(), pixel_path=False, **train):
    return notes(
        Config(
            model=ModelConfig(pixel_path=pixel_path),
            train=TrainConfig(model=model, **train),
            removal=RemovalConfig(**dict(removal)),
        )
    )


@pytest.mark.parametrize("model", ["mtl_dp", "stl"])
def test_notes_removal_without_a_game_is_noted(model):
    assert of(model, ALL) == [
        f"note: --model={model} has no adversarial game, so it ignores --mask=learned, "
        "--erasure=leace, --feature_noise=0.5"
    ]
    assert of(model, {"mask": "learned"}) == [
        f"note: --model={model} has no adversarial game, so it ignores --mask=learned"
    ]
    assert of(model) == of("mtl_adv", ALL) == of("mtl_adv_dp", {"mask": "learned"}) == []


def test_notes_pixel_path_without_a_mask_is_noted():
    line = "note: --pixel_path without a mask: the features contain the picture itself"
    assert of("mtl_adv", pixel_path=True) == of("stl", pixel_path=True) == [line]
    assert of("mtl_adv_dp", {"mask": "learned"}, pixel_path=True) == []
    # A mask that is not in force covers nothing.
    masked = of("mtl_dp", {"mask": "learned"}, pixel_path=True)
    assert len(masked) == 2 and masked[1] == line


def test_config_erasure_without_a_joint_phase_is_refused():
    with pytest.raises(UsageError) as error:
        of("mtl_adv", {"erasure": "leace"}, adversarial_epochs=0)
    assert str(error.value) == (
        "--erasure=leace: is fitted in the joint phase, which --adversarial_epochs=0 skips; "
        "give at least 1, or --erasure=none"
    )
    of("mtl_adv", {"erasure": "leace"}, adversarial_epochs=1)
    of("mtl_dp", {"erasure": "leace"}, adversarial_epochs=0)


def celeba(*flags):
    return notes(parse("train", ["--flagfile=celeba.cfg", "--data_dir=x", *flags]).config)


def test_notes_settings_of_another_encoder_are_noted():
    assert celeba() == []
    small, off = celeba("--encoder=compact")
    assert "--learning_rate=0.0001 is small (0.001 is usual)" in small and "compact.cfg" in small
    assert "--perceptual_weights=auto" in off
    # The remedy is one.
    assert celeba("--flagfile=compact.cfg") == []
    (small,) = celeba("--encoder_weights=none", "--perceptual_weights=none")
    assert "compact.cfg" not in small
    assert celeba("--encoder_weights=w.h5", "--perceptual_weights=hed") == []
    assert len(celeba("--encoder=compact", "--model=stl")) == 1


def test_fit_reports_notes_before_training(tmp_path):
    config = tiny_config("stl", removal={"mask": "learned"}, **dict.fromkeys(EPOCHS, 0))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, pixel_path=True))
    said = []
    fit(config, tiny_arrays(), run_dir=tmp_path, report=said.append)
    assert said == notes(config) and len(said) == 2
    # A finished run is loaded: nothing is trained with it.
    fit(config, tiny_arrays(), run_dir=tmp_path, report=said.append)
    assert len(said) == 2
