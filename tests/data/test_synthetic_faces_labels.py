"""Statistics of the labels, and what people keep from picture to picture."""

import itertools

import numpy as np
import pytest
from scipy import stats

from tf_mtl_privacy.data import synthetic_faces as sf

ROWS = np.arange(40_000)
# One test in ten thousand may fail by chance; seeds are fixed, so none does twice.
RARE = 1e-4


@pytest.mark.parametrize("stream", ["train", "test"])
@pytest.mark.parametrize("name", list(sf.ATTRIBUTES))
def test_labels_are_balanced(stream, name):
    classes = len(sf.ATTRIBUTES[name])
    counts = np.bincount(getattr(sf.labels(0, stream, ROWS), name), minlength=classes)
    low, high = stats.binom.interval(1.0 - RARE / classes, len(ROWS), 1.0 / classes)
    assert np.all((counts >= low) & (counts <= high)), counts


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations(sf.ATTRIBUTES, 2)))
def test_labels_are_independent(first, second):
    labels = sf.labels(0, "train", ROWS)
    table = np.zeros((len(sf.ATTRIBUTES[first]), len(sf.ATTRIBUTES[second])))
    np.add.at(table, (getattr(labels, first), getattr(labels, second)), 1)
    assert stats.chi2_contingency(table).pvalue > RARE


@pytest.mark.parametrize("correlation", [0.0, 0.4, 1.0])
def test_correlation_ties_iris_to_gender(correlation):
    labels = sf.labels(0, "train", ROWS, correlation=correlation)
    agree = np.sum(labels.iris // 4 == labels.gender)
    low, high = stats.binom.interval(1.0 - RARE, len(ROWS), 0.5 + 0.5 * correlation)
    assert low <= agree <= high
    counts = np.bincount(labels.iris, minlength=8)
    low, high = stats.binom.interval(1.0 - RARE / 8, len(ROWS), 0.125)
    assert np.all((counts >= low) & (counts <= high))


def test_correlation_leaves_other_labels():
    plain, tied = (sf.labels(0, "train", ROWS, correlation=c) for c in (0.0, 1.0))
    for name in ("gender", "age", "expression"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(tied, name))


def test_people_keep_their_labels_across_streams():
    people = 50
    known: dict[int, tuple] = {}
    for stream in ("train", "test"):
        labels = sf.labels(0, stream, np.arange(2_000), num_identities=people)
        for row, who in enumerate(labels.identity.tolist()):
            traits = (labels.gender[row], labels.age[row], labels.iris[row])
            assert known.setdefault(who, traits) == traits
    assert set(known) == set(range(people))
    assert len(set(known.values())) > people // 2


def test_people_vary_in_expression_and_number_of_pictures():
    labels = sf.labels(0, "train", ROWS, num_identities=10)
    counts = np.bincount(labels.identity, minlength=10)
    low, high = stats.binom.interval(1.0 - RARE / 10, len(ROWS), 0.1)
    assert np.all((counts >= low) & (counts <= high))
    for who in range(10):
        assert 0.45 < labels.expression[labels.identity == who].mean() < 0.55


def test_people_keep_their_looks_across_streams():
    """Pictures of a person are nearer to each other than to other people's, across streams."""
    rows = np.arange(240)
    people = 6
    first = sf.render(0, "train", rows, size=32, num_identities=people)
    second = sf.render(0, "test", rows, size=32, num_identities=people)
    assert len(np.unique(np.concatenate([first.image, second.image]), axis=0)) == 2 * len(rows)

    def portraits(faces: sf.Faces) -> np.ndarray:
        return np.stack([faces.image[faces.identity == k].mean(axis=0) for k in range(people)])

    a, b = portraits(first), portraits(second)
    distances = np.mean((a[:, None] - b[None]) ** 2, axis=(2, 3, 4))
    np.testing.assert_array_equal(np.argmin(distances, axis=1), np.arange(people))
