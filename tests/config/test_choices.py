"""With everything private, who may choose which weights are released."""

import dataclasses

import pytest

from tests.training.tiny import tiny_arrays
from tf_mtl_privacy.config import Config, DataConfig, GameConfig, ModelConfig, PrivacyConfig
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.training.validate_inputs import check_trainable

CHOICES = [("checkpoint_selection", "best", "last"), ("check_epochs", 2, 0)]


def everything(game=(), data=(), scope="all"):
    return Config(
        data=DataConfig(**dict(data)),
        model=ModelConfig(backbone="a run"),
        privacy=PrivacyConfig(dp_scope=scope),
        game=GameConfig(**dict(game)),
    )


@pytest.mark.parametrize(("flag", "value", "plain"), CHOICES)
def test_an_attacker_of_training_rows_does_not_choose_what_is_released(flag, value, plain):
    celeba = {"dataset": "celeba", "data_dir": "x"}
    with pytest.raises(UsageError) as error:
        everything({flag: value}, celeba)
    assert str(error.value) == (
        f"--{flag}={value}: with --dp_scope=all and --dataset=celeba a fresh attacker that reads "
        f"training rows without noise would choose what is released; give --{flag}={plain}"
    )
    everything({}, celeba)
    everything({flag: value}, celeba, scope="discriminator")
    # Its rows are drawn for it there.
    everything({flag: value})


@pytest.mark.parametrize(("flag", "value", "plain"), CHOICES)
def test_nor_does_one_of_rows_that_are_handed_over(flag, value, plain):
    config, rows = everything({flag: value}), tiny_arrays()
    with pytest.raises(UsageError, match=f"--{flag}={value}: .* rows that were handed over"):
        check_trainable(config, rows)
    check_trainable(everything(), rows)
    check_trainable(config, dataclasses.replace(rows, name="synthetic_faces"))
