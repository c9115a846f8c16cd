"""What a configuration asks for in vain is said in one line."""

import dataclasses

import pytest

from tests.training.tiny import EPOCHS, tiny_arrays, tiny_config
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.config import Config, ModelConfig, RemovalConfig, TrainConfig
from tf_mtl_privacy.config.run import notes
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.training.fit import fit

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
def test_removal_beside_a_model_without_a_game(model):
    assert of(model, ALL) == [
        f"note: --model={model} has no adversarial game, so it ignores --mask=learned, "
        "--erasure=leace, --feature_noise=0.5"
    ]
    assert of(model, {"mask": "learned"}) == [
        f"note: --model={model} has no adversarial game, so it ignores --mask=learned"
    ]
    assert of(model) == of("mtl_adv", ALL) == of("mtl_adv_dp", {"mask": "learned"}) == []


def test_features_that_carry_the_picture():
    line = "note: --pixel_path without a mask: the features contain the picture itself"
    assert of("mtl_adv", pixel_path=True) == of("stl", pixel_path=True) == [line]
    assert of("mtl_adv_dp", {"mask": "learned"}, pixel_path=True) == []
    # A mask that is not in force covers nothing.
    masked = of("mtl_dp", {"mask": "learned"}, pixel_path=True)
    assert len(masked) == 2 and masked[1] == line


def test_an_erasure_that_nothing_would_fit_is_refused():
    with pytest.raises(UsageError) as error:
        of("mtl_adv", {"erasure": "leace"}, adversarial_epochs=0)
    assert str(error.value) == (
        "--erasure=leace: is fitted in the joint phase, which --adversarial_epochs=0 leaves out; "
        "give at least 1, or --erasure=none"
    )
    of("mtl_adv", {"erasure": "leace"}, adversarial_epochs=1)
    of("mtl_dp", {"erasure": "leace"}, adversarial_epochs=0)


def celeba(*flags):
    return notes(parse("train", ["--flagfile=celeba.cfg", "--data_dir=x", *flags]).config)


def test_step_sizes_of_another_encoder_are_told():
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


def test_they_are_said_before_anything_is_trained(tmp_path):
    config = tiny_config("stl", removal={"mask": "learned"}, **dict.fromkeys(EPOCHS, 0))
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, pixel_path=True))
    said = []
    fit(config, tiny_arrays(), run_dir=tmp_path, report=said.append)
    assert said == notes(config) and len(said) == 2
    # A finished run is loaded: nothing is trained with it.
    fit(config, tiny_arrays(), run_dir=tmp_path, report=said.append)
    assert len(said) == 2
