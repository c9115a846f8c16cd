"""Single parts of an audit: shadow models, the inversion attacker's pictures, claims."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tf_mtl_privacy.config import Config, DataConfig, PrivacyConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.data.labels import Labels
from tf_mtl_privacy.evaluation import inversion
from tf_mtl_privacy.evaluation.audit import parts
from tf_mtl_privacy.evaluation.inversion import DecoderBudget
from tf_mtl_privacy.evaluation.membership import saved as membership_saved
from tf_mtl_privacy.evaluation.membership.outputs import Candidates
from tf_mtl_privacy.evaluation.probes import saved
from tf_mtl_privacy.training import fit
from tf_mtl_privacy.training.private_updates import with_bounded_people

ROWS = 30


def faces(person=None):
    """30 pictures, 10 of each split."""
    draw = np.random.default_rng(0)
    dataset = Dataset.from_arrays(
        draw.integers(0, 256, (ROWS, 16, 16, 3), dtype=np.uint8),
        {"gender": np.arange(ROWS) % 2},
        np.arange(ROWS) % 3,
        split=np.repeat([0, 1, 2], ROWS // 3),
    )
    return dataclasses.replace(dataset, person=person)


def audited(dataset, data=None, **run):
    config = Config(privacy=PrivacyConfig(max_images_per_person=2))
    fields = {"config": config, "status": {}, **run}
    data = data or DataConfig(dataset="celeba", data_dir="faces")
    return parts.Audited(SimpleNamespace(**fields), dataset, data, "fast", 0, [])


def test_train_shadow_of_a_run_with_bounded_people_succeeds(monkeypatch, tmp_path):
    dataset, seen = faces(), []

    def trained(config, own, run_dir, check):
        assert check is None, "nothing along the way chose the attacked networks"
        # As `fit` does first of all.
        seen.append(len(with_bounded_people(config, own).rows["train"]))
        run_dir.mkdir()

    monkeypatch.setattr(fit, "fit", trained)
    monkeypatch.setattr(saved, "networks", lambda run: {})
    labels = Labels({"gender": np.arange(12) % 2}, np.arange(12) % 3)
    rows = Candidates(dataset.store.images, np.arange(12), labels)
    parts._train_shadow(audited(dataset), 0, rows, tmp_path / "0")
    assert seen == [12]


@pytest.mark.parametrize("private_label", ["iris", "identity"])
def test_attacker_pictures_of_drawn_identities_are_the_same_people(private_label):
    data = DataConfig(image_size=32, private_label=private_label, num_identities=5)
    with_people = private_label == "identity"
    dataset = faces(np.arange(ROWS) % 5 if with_people else None)
    images, people = parts._attacker_pictures(audited(dataset, data), np.arange(20, 30), 4)
    assert images.shape == (4, 32, 32, 3)
    assert people == ("same" if with_people else "other")


def test_attacker_pictures_of_unknown_people_are_unknown():
    test, person = np.arange(20, 30), np.arange(ROWS)
    person[15] = 25
    for who, rows, people in [
        (person, 9, "other"),
        (np.where(person == 12, -1, person), 9, "unknown"),
        (None, 10, "unknown"),
    ]:
        found = parts._attacker_pictures(audited(faces(who)), test, 100)
        assert (len(found[0]), found[1]) == (rows, people)


def test_inversion_part_passes_restored_pictures_to_the_attacker(monkeypatch):
    image, features = keras.Input((16, 16, 3)), keras.Input((8, 8, 2))
    encoder = keras.Model(image, keras.layers.Conv2D(2, 2, strides=2)(image))
    grown = keras.layers.UpSampling2D(2)(features)
    restorer = keras.Model(features, keras.layers.Conv2D(3, 1, activation="sigmoid")(grown))
    given = []
    monkeypatch.setattr(inversion, "invert", lambda *args, **kw: given.append((args, kw)) or {})
    small = inversion.InversionBudget(8, 6, DecoderBudget(8, 1, 1, 1e-3))
    monkeypatch.setitem(inversion.INVERSION_BUDGETS, "fast", small)
    for released in (restorer, None):
        bundle = SimpleNamespace(encoder=encoder, restorer=released)
        run = {"bundle": bundle, "single_task": None}
        found = parts.inversion_part(audited(faces(), **run))
        assert found == {"attacker_people": "unknown"}
    (arguments, keywords), (_, without) = given
    assert without["restored"] is None
    for seen, made in zip(arguments[::2], keywords["restored"], strict=True):
        np.testing.assert_allclose(made, restorer.predict(seen, verbose=0), rtol=1e-5)


def test_epsilon_part_without_differential_privacy_has_no_claim():
    left = audited(faces())
    found = parts.epsilon_part(left)
    assert found["verdict"] == "no_claim" and "without differential privacy" in found["text"]
    assert found["epsilon_lower"] is None and left.not_done == []


def test_membership_part_without_labels_names_left_out_attacks(monkeypatch):
    done = {"business": dict.fromkeys(("loss", "entropy"))}
    found = SimpleNamespace(summary=done)
    monkeypatch.setattr(membership_saved, "attack_run", lambda *arguments: found)
    part = audited(faces(), run_dir=Path("run"))
    assert parts.membership_part(part, 0) is found
    (left,) = part.not_done
    assert left["what"] == "modified_entropy, margin" and "label" in left["why"]
