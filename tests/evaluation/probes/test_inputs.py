"""The forms in which attackers read rows: against NumPy and scikit-learn, and blind to scale."""

import dataclasses

import numpy as np
from sklearn.feature_selection import SelectKBest
from sklearn.preprocessing import StandardScaler

from tests.evaluation.probes.conftest import make_target
from tf_mtl_privacy.evaluation.probes.data import Inputs


def rescaled(data, scale, offset=0.0):
    parts = ("train", "validation", "test")
    changes = {part: (getattr(data, part) * scale + offset).astype(np.float32) for part in parts}
    return dataclasses.replace(data, **changes)


def test_standardised_rows_are_scikit_learn_s():
    data = make_target(leak=0.5)
    found = Inputs(rescaled(data, 3.0, 7.0), 8, 0).standardised
    scaler = StandardScaler().fit(data.train.reshape(240, -1))
    for part, rows in zip(found, (data.train, data.validation, data.test), strict=True):
        expected = scaler.transform(rows.reshape(len(rows), -1))
        np.testing.assert_allclose(part, expected, atol=1e-4)
        assert part.dtype == np.float32


def test_whitened_rows_are_uncorrelated_with_deviation_one():
    found = Inputs(make_target(shape=(5, 5, 2), leak=1.0), 12, 0).whitened
    assert found.train.shape == (240, 12) and found.test.shape == (160, 12)
    np.testing.assert_allclose(np.cov(found.train.T), np.eye(12), atol=1e-3)


def test_there_are_no_more_components_than_rows_or_columns():
    assert Inputs(make_target(shape=(2, 2, 2)), 50, 0).whitened.train.shape == (240, 8)
    few = make_target(rows=(10, 5, 5))
    assert Inputs(few, 50, 0).whitened.train.shape == (10, 9)


def test_scale_does_not_matter_to_standardised_and_whitened_rows():
    data = make_target(leak=0.5)
    # Each column by its own factor, over six orders of magnitude, on top of a constant.
    scale = 10.0 ** np.random.default_rng(3).uniform(-5, 1, data.train.shape[1:])
    small = Inputs(rescaled(data, scale), 8, 0)
    plain = Inputs(data, 8, 0)
    np.testing.assert_allclose(small.standardised.test, plain.standardised.test, atol=1e-3)
    np.testing.assert_allclose(small.whitened.test, plain.whitened.test, atol=1e-2)


def test_columns_that_never_change_are_zero():
    data = make_target()
    for part in (data.train, data.validation, data.test):
        part[:, 0, 0, :] = 1e4 / 3
    found = Inputs(data, 8, 0)
    assert not found.standardised.train.reshape(240, 6, 6, 4)[:, 0, 0].any()
    assert np.isfinite(found.whitened.train).all()
    assert np.isfinite(found.channels("whitened").matrix).all()


def test_selected_columns_are_those_of_an_f_test():
    data = make_target(leak=0.3)
    inputs = Inputs(data, 8, 0)
    flat = data.train.reshape(240, -1)
    chosen = SelectKBest(k=10).fit(flat, data.train_labels).get_support()
    np.testing.assert_array_equal(inputs.selected(10).train, inputs.standardised.train[:, chosen])


def test_whitened_channels_are_uncorrelated_over_all_places():
    data = make_target()
    mix = np.random.default_rng(5).normal(size=(4, 4)) * [1.0, 1e-3, 10.0, 1.0]
    mixed = rescaled(data, 1.0)
    for part in ("train", "validation", "test"):
        getattr(mixed, part)[:] = getattr(mixed, part) @ mix
    offset, matrix = Inputs(mixed, 1, 0).channels("whitened")
    found = (mixed.train - offset) @ matrix
    np.testing.assert_allclose(np.cov(found.reshape(-1, 4).T), np.eye(4), atol=5e-3)


def test_standardised_channels_and_raw_ones():
    data = rescaled(make_target(), 5.0, 3.0)
    offset, matrix = Inputs(data, 1, 0).channels("standardised")
    rows = data.train.reshape(-1, 4).astype(np.float64)
    np.testing.assert_allclose(offset, rows.mean(0), rtol=1e-5)
    np.testing.assert_allclose(matrix, np.diag(1 / rows.std(0)), rtol=1e-4, atol=1e-9)
    offset, matrix = Inputs(data, 1, 0).channels("raw")
    assert not offset.any() and (matrix == np.eye(4)).all()
