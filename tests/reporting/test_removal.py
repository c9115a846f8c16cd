"""What results.json says took information out, against numbers worked by hand."""

import dataclasses

import pytest

from tf_mtl_privacy.config import Config, RemovalConfig
from tf_mtl_privacy.reporting.results import removal_summary


def config_of(removal, model="mtl_adv", **shapes):
    plain = Config()
    return dataclasses.replace(
        plain,
        data=dataclasses.replace(plain.data, image_size=32),
        model=dataclasses.replace(plain.model, **shapes),
        train=dataclasses.replace(plain.train, model=model),
        removal=RemovalConfig(**removal),
    )


def test_noise_of_power_one_passes_half_a_bit_per_number():
    found = removal_summary(config_of({"feature_noise": 1.0}, feature_stride=8, feature_channels=3))
    assert found["entries"] == 48
    assert found["capacity_bits"] == pytest.approx(24.0)


def test_without_noise_there_is_no_bound():
    found = removal_summary(config_of({"erasure": "leace", "erasure_labels": "public"}))
    assert found["capacity_bits"] is None
    assert (found["erasure"], found["erasure_labels"]) == ("leace", "public")
    assert removal_summary(config_of({}))["erasure_labels"] is None


@pytest.mark.parametrize(("mask", "entries"), [("none", 64 * (5 + 48)), ("learned", 64 * (5 + 64))])
def test_pixels_that_are_handed_on_count(mask, entries):
    config = config_of({"mask": mask}, feature_stride=4, feature_channels=5, pixel_path=True)
    assert removal_summary(config)["entries"] == entries


def test_a_model_without_the_game_removes_nothing():
    found = removal_summary(config_of({"feature_noise": 1.0, "mask": "learned"}, model="mtl_dp"))
    assert (found["mask"], found["feature_noise"], found["capacity_bits"]) == ("none", 0.0, None)
