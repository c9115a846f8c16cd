"""LiRA on heads: an overfitted head and a new one."""

import keras
import numpy as np
import pytest

from tf_mtl_privacy.evaluation.membership.lira import head_scores
from tf_mtl_privacy.evaluation.membership.roc import auc
from tf_mtl_privacy.models.heads import build_business


@pytest.fixture(scope="module")
def pool():
    """160 rows of noise with coin tosses for labels: a head can only learn them by heart."""
    draw = np.random.default_rng(0)
    features = draw.normal(size=(160, 4, 4, 4)).astype(np.float32)
    return features, {"coin": draw.integers(0, 2, 160).astype(np.int32)}


def test_head_scores_catch_an_overfitted_head_only(pool):
    features, labels = pool
    new = build_business((4, 4, 4), {"coin": 2}, units=16, seed=1)
    trained = build_business((4, 4, 4), {"coin": 2}, units=16, seed=1)
    trained.compile(
        keras.optimizers.Adam(3e-3),
        {"coin": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
    )
    trained.fit(features[:80], {"coin": labels["coin"][:80]}, epochs=60, verbose=0)
    found = []
    for business in (trained, new):
        scores = head_scores(business, features, labels, 80, 4, 40, 0, lambda: found.append(1))
        assert set(scores) == {"lira_heads_offline", "lira_heads_online"}
        low, high = auc(scores["lira_heads_online"][:80], scores["lira_heads_online"][80:])[1]
        if business is trained:
            assert low > 0.6
        else:
            assert low <= 0.5 <= high
    assert len(found) == 8


def test_head_scores_repeat_with_the_same_seed(pool):
    features, labels = pool
    business = build_business((4, 4, 4), {"coin": 2}, units=8, seed=1)
    first, second = (head_scores(business, features, labels, 80, 2, 1, 5) for _ in range(2))
    for name, values in first.items():
        np.testing.assert_allclose(values, second[name], rtol=1e-3, atol=1e-3)
        assert np.isfinite(values).all()
