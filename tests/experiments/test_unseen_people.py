"""experiments/unseen_people: folds of people, and the accuracy of each kind of networks."""

import dataclasses

import keras
import numpy as np
import pytest

from experiments.unseen_people import __main__ as unseen_people
from experiments.unseen_people.__main__ import (
    KNOWN,
    UNKNOWN,
    folds_of_people,
    main,
    measure,
    without,
)
from tf_mtl_privacy.config import Config
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.models.bundle import Bundle

PEOPLE, EACH = 12, 4


@pytest.fixture
def faces():
    """Twelve people, four of them women, with four pictures each; the grey level is the person."""
    person = np.repeat(np.arange(PEOPLE), EACH)
    images = np.broadcast_to(person[:, None, None, None].astype(np.uint8), (len(person), 8, 8, 3))
    dataset = Dataset.from_arrays(
        np.ascontiguousarray(images),
        {"gender": (person % 3 > 0).astype(int)},
        person,
        split=np.tile([0, 0, 1, 2], PEOPLE),
        person=person,
    )
    return dataset


def recogniser(trained):
    """Networks that recognise the people they learned from and call everybody else a man."""
    seen = np.isin(np.arange(PEOPLE), trained.person[trained.rows["train"]])
    man = (np.arange(PEOPLE) % 3 > 0) | ~seen
    image = keras.Input((8, 8, 3))
    # Pictures come in [0, 1].
    features = keras.layers.Rescaling(255.0)(image)
    given = keras.Input((8, 8, 3))
    person = keras.ops.cast(keras.ops.round(given[:, 0, 0, 0]), "int32")
    table = keras.layers.Embedding(PEOPLE, 2)
    logits = table(person)
    table.set_weights([np.stack([~man, man], axis=1).astype(np.float32)])
    return Bundle(keras.Model(image, features), keras.Model(given, {"gender": logits}))


def measured(faces, folds, folder):
    """Returns figures of recognisers, and the folders of their runs."""
    places = []

    def train(config, part, place):
        places.append(place)
        return recogniser(part)

    return measure(Config(), faces, folds, folder, train)["gender"], places


def test_folds_leave_everybody_out_once_and_spread_women(faces):
    folds = folds_of_people(faces, 4)
    assert sorted(np.concatenate(folds)) == list(range(PEOPLE))
    assert all((fold % 3 == 0).sum() == 1 for fold in folds)


def test_without_removes_people_from_every_split(faces):
    strangers = dataclasses.replace(faces, person=np.where(faces.person == 3, -1, faces.person))
    part = without(strangers, np.array([0, 7]))
    for split, each in (("train", 2), ("validation", 1), ("test", 1)):
        assert not np.isin(part.person[part.rows[split]], [-1, 0, 7]).any()
        assert len(part.rows[split]) == each * (PEOPLE - 3)
    others = without(strangers, np.array([0, 8])).fingerprint
    assert len({faces.fingerprint, part.fingerprint, others}) == 3


def test_measure_separates_recognition_from_reading(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(unseen_people, "_RESAMPLES", 200)
    found, places = measured(faces, 4, tmp_path)
    assert len(set(places)) == 4
    # The one test picture of every person, once for each kind of networks.
    known, unknown = found[KNOWN], found[UNKNOWN]
    assert known["n"] == unknown["n"] == found["people"] == PEOPLE
    assert known["balanced_accuracy"] == 1.0 and known["balanced_ci95"] == [1.0, 1.0]
    assert unknown["recall"] == {"0": 0.0, "1": 1.0}
    assert unknown["accuracy"] == pytest.approx(2 / 3)
    assert found["balanced_gap"] == 0.5
    # A resample without women, about one in 130, has no gap.
    assert found["balanced_gap_ci95"] == pytest.approx([0.5, 0.5])


def test_measure_uses_a_folder_per_fold(faces, tmp_path, monkeypatch):
    """A run of other folds would have been trained on the people it is tested on."""
    monkeypatch.setattr(unseen_people, "_RESAMPLES", 2)
    places = {place for folds in (3, 4) for place in measured(faces, folds, tmp_path)[1]}
    assert len(places) == 7


def test_measure_with_more_folds_than_people_is_refused(faces, tmp_path):
    with pytest.raises(UsageError, match="--folds=13: 12 people have training and test pictures"):
        measure(Config(), faces, 13, tmp_path, lambda *_: pytest.fail("trained"))


def test_measure_without_identities_is_refused(faces, tmp_path):
    nobody = dataclasses.replace(faces, person=None)
    with pytest.raises(UsageError, match="has no identities"):
        measure(Config(), nobody, 2, tmp_path, lambda *_: pytest.fail("trained"))


def test_main_with_one_fold_is_refused(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--data_dir=photographs", "--folds=1"])
    assert ended.value.code == 2 and "--folds=1: expected at least 2" in capsys.readouterr().err
