"""Readers of private labels that no epsilon covers, by configuration."""

import pytest

from tf_mtl_privacy.config import (
    Config,
    DataConfig,
    GameConfig,
    LossConfig,
    ModelConfig,
    PrivacyConfig,
    RemovalConfig,
    TrainConfig,
)
from tf_mtl_privacy.training.dp_status import dp_status

MASK = {"mask": "learned", "region_rows": 12_000}
GATES = "gates and the schedule of beta read the labels of validation rows"
PLAIN = "the discriminator is trained without noise"


def reads(
    model="mtl_adv_dp", removal=(), game=(), loss=(), data=(), privacy=(), kind="unaccounted"
):
    config = Config(
        data=DataConfig(**dict(data)),
        model=ModelConfig(backbone="runs/b" if dict(privacy).get("dp_scope") == "all" else ""),
        loss=LossConfig(**dict(loss)),
        train=TrainConfig(model=model),
        privacy=PrivacyConfig(**dict(privacy)),
        removal=RemovalConfig(**dict(removal)),
        game=GameConfig(**dict(game)),
    )
    return dp_status(config, None, None, {}, {})[f"{kind}_label_access"]


@pytest.mark.parametrize("objective", ["confusion", "entropy"])
def test_public_mask_and_label_free_objective_read_no_training_label(objective):
    removal = MASK | {"erasure": "leace"}
    assert reads(removal=removal, loss={"objective": objective}) == []
    assert reads(removal=removal, kind="public") == [
        "the mask's reader: 12,000 synthetic faces of no real person",
        "the erasure: 12,000 synthetic faces of no real person",
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss": {"objective": "paper"}}, "objective 'paper' reads the label of every training"),
        ({"loss": {"objective": "paper_bounded"}}, "objective 'paper_bounded' reads the label of"),
        ({"model": "mtl_adv"}, PLAIN),
        ({"removal": MASK | {"region_labels": "train"}}, "the mask's reader learns the labels of"),
        (
            {"removal": {"erasure": "leace", "erasure_labels": "train"}},
            "the erasure is fitted to the labels of training rows",
        ),
        ({"data": {"private_label": "identity"}}, "the people and pictures of the data set"),
    ],
)
def test_each_reader_of_training_labels_is_listed(change, words):
    (actual,) = reads(**change)
    assert words in actual


def test_colour_axis_is_listed_as_reader_of_labels():
    """The axis is released inside the encoder; the reader is not released."""
    colour = MASK | {"mask_fill": "colour"}
    (actual,) = reads(removal=colour | {"region_labels": "train"})
    assert actual == "the mask's reader and its colour axis learn the labels of training rows"
    assert reads(removal=colour) == []
    (public,) = reads(removal=colour, kind="public")
    assert (
        public == "the mask's reader and its colour axis: 12,000 synthetic faces of no real person"
    )


@pytest.mark.parametrize("game", [{"check_epochs": 2}, {"checkpoint_selection": "best"}])
def test_attacker_that_selects_networks_is_listed_as_reader(game):
    """With synthetic faces the attacker learns from other faces, else from the run's own rows."""
    celeba = {"dataset": "celeba", "data_dir": "x"}
    (actual,) = reads(game=game, data=celeba)
    assert actual == "the fresh attacker of the checks learns the labels of training rows"
    assert reads(game=game) == [] == reads(data=celeba)
    config = Config(game=GameConfig(**game))
    passed = dp_status(config, None, None, {}, {}, data="arrays")
    assert passed["unaccounted_label_access"] == [actual]


def test_options_not_in_force_read_no_label():
    train = MASK | {"region_labels": "train", "erasure": "leace", "erasure_labels": "train"}
    assert reads("mtl_dp", removal=train) == [] == reads("mtl_dp", removal=MASK, kind="public")
    assert reads("stl") == [] == reads("stl", kind="validation")
    # An objective of weight 0 is not used.
    off = {"objective": "paper", "beta": 0.0, "beta_late": 0.0}
    assert reads(loss=off) == []
    # With everything private the objective is part of the private update.
    assert reads(loss={"objective": "paper"}, privacy={"dp_scope": "all"}) == []
    # Shuffled labels are not private labels.
    shuffled = {"discriminator_labels": "shuffled"}
    assert reads("mtl_adv", loss={"objective": "paper"}, game=shuffled) == []


def test_readers_of_validation_labels_are_listed_separately():
    assert reads(kind="validation") == [GATES]
    checked = reads(game={"check_epochs": 2}, kind="validation")
    assert checked[0] == GATES and "the stop rule reads a fresh attacker" in checked[1]
    readers = reads(game={"checkpoint_selection": "best", "check_epochs": 2}, kind="validation")
    assert readers[0] == GATES and "the released epoch was chosen" in readers[1]
    assert len(checked) == len(readers) == 2
