"""The configuration by itself: defaults, ranges, round trips through JSON."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tf_mtl_privacy.config import (
    Config,
    DataConfig,
    GameConfig,
    LossConfig,
    ModelConfig,
    PrivacyConfig,
    RemovalConfig,
    TrainConfig,
    expectation,
    section_types,
)
from tf_mtl_privacy.config.options import option, parse_tasks, parse_thresholds
from tf_mtl_privacy.errors import UsageError

OPTIONS = [(kind, field) for kind in section_types().values() for field in dataclasses.fields(kind)]


def test_section_types_lists_every_section():
    assert section_types() == {
        "data": DataConfig,
        "model": ModelConfig,
        "loss": LossConfig,
        "train": TrainConfig,
        "privacy": PrivacyConfig,
        "removal": RemovalConfig,
        "game": GameConfig,
    }


def test_config_round_trip_through_json():
    config = Config(
        data=DataConfig(train_rows=77, tasks="gender=gender"),
        loss=LossConfig(alpha=0.1 + 0.2),
        train=TrainConfig(model="stl", early_gates=False),
    )
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert Config.from_dict({}) == Config()
    assert Config.from_dict({"loss": {"alpha": 0.9}}).loss.alpha == 0.9


@pytest.mark.parametrize(
    ("options", "version"),
    [
        ({"private_label": "identity"}, 1),
        ({"train_rows": 50}, 1),
        ({"test_rows": 50}, 1),
        ({}, 2),
        ({"dataset": "synthetic_faces", "private_label": "identity", "train_rows": 50}, 2),
    ],
)
def test_from_dict_without_split_version_chooses_rows_by_version_1(options, version):
    data = DataConfig(**{"dataset": "celeba", "data_dir": "x", **options})
    saved = Config(data=data).to_dict()
    assert saved["data"].pop("split_version") == 2
    assert Config.from_dict(saved) == Config(data=dataclasses.replace(data, split_version=version))
    # A section that somebody wrote by hand has the defaults of today.
    short = {"dataset": "celeba", "data_dir": "x", **options}
    assert Config.from_dict({"data": short}).data.split_version == 2


@given(st.floats(0, 1e6), st.floats(0, 0.5), st.integers(1, 10**6), st.booleans())
def test_config_round_trip_of_any_numbers(alpha, beta, batch_size, early_gates):
    config = Config(
        loss=LossConfig(alpha=alpha, beta=beta),
        train=TrainConfig(batch_size=batch_size, early_gates=early_gates),
    )
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    "sections",
    [[], {"losses": {}}, {"loss": {"alhpa": 1.0}}, {"loss": []}, {"loss": {"alpha": "0.4"}}],
)
def test_from_dict_unknown_names_are_refused(sections):
    with pytest.raises(UsageError):
        Config.from_dict(sections)


def test_config_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().loss.alpha = 1.0


@pytest.mark.parametrize(("kind", "field"), OPTIONS, ids=lambda value: getattr(value, "name", ""))
def test_option_bounds_are_enforced_at_their_edges(kind, field):
    def accepts(value):
        try:
            kind(**{field.name: value})
        except UsageError as error:
            # Only this option's own range counts, not rules that join it with others.
            return f"--{field.name}={value}: expected {expectation(field)}" != str(error)
        return True

    meta, whole = field.metadata, isinstance(field.default, int)
    tiny = 1 if whole else 1e-9
    if meta["low"] is not None:
        assert accepts(meta["low"]) and not accepts(meta["low"] - tiny)
    if meta["above"] is not None:
        assert accepts(meta["above"] + 1e-9) and not accepts(meta["above"])
    if meta["high"] is not None:
        assert accepts(meta["high"]) and not accepts(meta["high"] + tiny)
    if meta["choices"]:
        assert all(accepts(choice) for choice in meta["choices"]) and not accepts("nothing")
    if isinstance(field.default, float):
        assert not accepts(math.nan) and not accepts(math.inf)


@pytest.mark.parametrize(("kind", "field"), OPTIONS, ids=lambda value: getattr(value, "name", ""))
def test_option_types_are_enforced(kind, field):
    for wrong in ([], None, "text" if not isinstance(field.default, str) else 1):
        with pytest.raises(UsageError, match=f"--{field.name}="):
            kind(**{field.name: wrong})
    if not isinstance(field.default, bool):
        with pytest.raises(UsageError, match=f"--{field.name}=True"):
            kind(**{field.name: True})


@dataclasses.dataclass(frozen=True)
class _Sample:
    share: float = option(0.5, "A share.", above=0, high=1)
    name: str = option("a", "A name.", choices=("a", "b"))
    free: str = option("", "Anything.")


def test_expectation_in_words():
    share, name, free = dataclasses.fields(_Sample)
    assert expectation(share) == "> 0 and <= 1"
    assert expectation(name) == "one of a, b"
    assert expectation(free) == ""


def test_parse_tasks():
    assert parse_tasks("gender=Male, age=Young") == {"gender": "Male", "age": "Young"}
    for wrong in ("", "gender", "gender=", "=Male", "a=b,a=c", "a=b,", "a b=c"):
        with pytest.raises(UsageError):
            parse_tasks(wrong)


def test_parse_thresholds():
    assert parse_thresholds("gate", "gender=0.95,age=.8") == {"gender": 0.95, "age": 0.8}
    assert parse_thresholds("gate", "") == {}
    for wrong in ("gender", "gender=high", "gender=1.01", "gender=-0.1", "=0.5", "gender=nan"):
        with pytest.raises(UsageError, match="--gate="):
            parse_thresholds("gate", wrong)


@pytest.mark.parametrize(
    ("dataset", "tasks", "private"),
    [
        ("synthetic_faces", {"gender", "age", "expression"}, "iris"),
        ("celeba", {"gender", "age", "expression"}, "attributes:"),
        ("lfw", {"gender", "age", "expression"}, "none"),
    ],
)
def test_data_config_defaults_of_each_data_set(dataset, tasks, private):
    data = DataConfig(dataset=dataset, data_dir="x")
    assert set(data.task_attributes) == tasks
    assert data.effective_private_label.startswith(private)


@pytest.mark.parametrize(
    ("model", "discriminator", "adversarial", "private"),
    [
        ("stl", False, False, False),
        ("mtl_adv", True, True, False),
        ("mtl_dp", True, False, True),
        ("mtl_adv_dp", True, True, True),
    ],
)
def test_train_config_properties_of_each_model(model, discriminator, adversarial, private):
    train = TrainConfig(model=model)
    assert (train.has_discriminator, train.is_adversarial, train.is_private) == (
        discriminator,
        adversarial,
        private,
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_epsilon": 1.0, "target_epsilon_pretrain": 2.0}, "both or neither"),
        (
            {
                "target_epsilon": 1.0,
                "target_epsilon_pretrain": 2.0,
                "target_epsilon_adversarial": 0.5,
            },
            "--target_epsilon=1 is for the whole run: give --target_epsilon=0 for targets by "
            "phase, or --target_epsilon_pretrain=0 and --target_epsilon_adversarial=0 for this one",
        ),
        ({"target_epsilon_adversarial": 0.5}, "both or neither"),
        ({"noise_multiplier": 0.0}, "zero noise needs --allow_zero_noise"),
    ],
)
def test_privacy_config_contradictory_budgets_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        PrivacyConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"noise_multiplier": 0.0, "allow_zero_noise": True},
        # A target calibrates the noise, whatever the flag says.
        {"noise_multiplier": 0.0, "target_epsilon": 1.0},
        {"target_epsilon_pretrain": 2.0, "target_epsilon_adversarial": 0.5},
    ],
)
def test_privacy_config_consistent_budgets_are_accepted(options):
    config = PrivacyConfig(**options)
    assert all(getattr(config, name) == value for name, value in options.items())


@pytest.mark.parametrize(
    ("options", "encoder", "perceptual"),
    [
        ({"encoder": "resnet50"}, "imagenet", "imagenet"),
        ({"encoder": "mobilenet_v2"}, "imagenet", "imagenet"),
        ({"encoder": "compact"}, "none", "none"),
        ({"encoder": "resnet50", "backbone": "runs/b"}, "none", "none"),
        ({"encoder": "resnet50", "encoder_weights": "none"}, "none", "none"),
        ({"encoder": "resnet50", "encoder_weights": "w.h5"}, "w.h5", "none"),
    ],
)
def test_auto_weights_follow_the_encoder(options, encoder, perceptual):
    model = ModelConfig(**{"encoder_weights": "auto", **options})
    config = Config(model=model, loss=LossConfig(perceptual_weights="auto"))
    assert config.model.effective_encoder_weights == encoder
    assert config.effective_perceptual_weights == perceptual
    assert model.has_start == (encoder != "none" or bool(model.backbone))
    # What was given counts as given.
    for name in ("none", "hed", "imagenet"):
        loss = LossConfig(perceptual_weights=name)
        assert Config(model=model, loss=loss).effective_perceptual_weights == name


def test_compact_encoder_names_all_flags_of_another_encoder_at_once():
    with pytest.raises(UsageError) as error:
        ModelConfig(encoder="compact", encoder_weights="imagenet", feature_stride=32)
    assert "--feature_stride=32" in str(error.value)
    assert "--encoder_weights=imagenet" in str(error.value)
    assert "--encoder_weights=none" in str(error.value)


@pytest.mark.parametrize("size", [32, 72, 96])
def test_image_sizes_of_pretrained_encoders(size):
    # The compact encoder takes all of them.
    Config(data=DataConfig(image_size=size))
    if size == 96:
        Config(data=DataConfig(image_size=size), model=ModelConfig(encoder="resnet50"))
        return
    with pytest.raises(UsageError, match=f"--image_size={size}: resnet50 takes multiples of 32"):
        Config(data=DataConfig(image_size=size), model=ModelConfig(encoder="resnet50"))


def test_config_lfw_is_for_evaluation_only():
    with pytest.raises(UsageError, match=r"tf_mtl_privacy\.evaluate .*--dataset=lfw") as error:
        Config(data=DataConfig(dataset="lfw", data_dir="x"))
    assert "stl" not in str(error.value)
