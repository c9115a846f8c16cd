"""The optimizer's own count of updates: what the ledger is held against after a restore."""

import pytest
import tensorflow as tf

from tests.privacy.networks import cross_entropy, dense_network, rows
from tf_mtl_privacy.privacy import DPSGD, DPAdam
from tf_mtl_privacy.training.checkpoints import Checkpoints


def fresh(kind, **options):
    model = dense_network()
    optimizer = kind(model, l2_norm_clip=1.0, noise_multiplier=1.0, **options)
    return optimizer, {"model": model.variables, "optimizer": optimizer.variables}


@pytest.mark.parametrize("clipping", ["ghost", "vectorized", "per_example"])
@pytest.mark.parametrize("kind", [DPAdam, DPSGD])
def test_it_counts_updates_and_comes_back_with_a_checkpoint(tmp_path, kind, clipping):
    optimizer, groups = fresh(kind, clipping=clipping)
    x, labels = rows(5, (3,))
    assert optimizer.iterations == 0
    for number in range(1, 4):
        optimizer.minimize(x, cross_entropy(labels))
        assert optimizer.iterations == number and isinstance(optimizer.iterations, int)
    Checkpoints(tmp_path, groups).save({})
    optimizer.minimize(x, cross_entropy(labels))
    again, groups = fresh(kind, clipping=clipping)
    assert again.iterations == 0
    Checkpoints(tmp_path, groups).restore()
    assert (again.iterations, optimizer.iterations) == (3, 4)


def test_updates_inside_a_function_and_on_empty_batches_count():
    optimizer, _ = fresh(DPAdam)
    x, labels = rows(5, (3,))

    @tf.function
    def step(mask):
        return optimizer.minimize(x, cross_entropy(labels), mask)

    for mask in ([True] * 5, [False] * 5, [True] + [False] * 4):
        step(tf.constant(mask))
    # An update of noise alone is one, too: the accounting composes it.
    assert optimizer.iterations == 3
