import threading
import time

import numpy as np
import pytest

from tf_mtl_privacy.data.sampling import ShuffledEpochs, prefetch, without_spare_places


def epoch_rows(order, epoch):
    parts = [order.batch(epoch, step) for step in range(order.steps_per_epoch)]
    return np.concatenate([rows[mask] for rows, mask in parts])


def test_shuffled_epochs_have_every_row_once_in_a_new_order():
    rows = np.arange(100, 203)
    order = ShuffledEpochs(rows, 10, seed=4)
    assert order.steps_per_epoch == 11
    first, second = epoch_rows(order, 0), epoch_rows(order, 1)
    np.testing.assert_array_equal(np.sort(first), rows)
    np.testing.assert_array_equal(np.sort(second), rows)
    # A random permutation of 103 rows has one fixed point on average.
    assert (first == second).sum() < 10 and (first == rows).sum() < 10


def test_shuffled_epochs_pad_the_last_batch():
    rows, mask = ShuffledEpochs(np.arange(7), 4, seed=0).batch(0, 1)
    assert rows.dtype == np.int64 and mask.dtype == np.bool_
    assert mask.tolist() == [True, True, True, False]
    assert rows[3] == -1 and (rows[:3] >= 0).all()


def test_shuffled_epochs_batch_depends_on_seed_epoch_and_step():
    used, fresh = (ShuffledEpochs(np.arange(50), 8, seed=9) for _ in range(2))
    for epoch in (3, 0, 3, 1):
        for step in (6, 0, 2):
            used.batch(epoch, step)
    np.testing.assert_array_equal(used.batch(5, 4)[0], fresh.batch(5, 4)[0])
    other = ShuffledEpochs(np.arange(50), 8, seed=10)
    assert (other.batch(5, 4)[0] != fresh.batch(5, 4)[0]).any()


def test_shuffled_epochs_order_is_pinned():
    generator = np.random.Generator(np.random.Philox(key=np.array([3, 2], np.uint64)))
    expected = generator.permutation(np.arange(6))[:4]
    np.testing.assert_array_equal(ShuffledEpochs(np.arange(6), 4, 3).batch(2, 0)[0], expected)


@pytest.mark.parametrize(("epoch", "step"), [(0, 2), (0, -1), (-1, 0)])
def test_shuffled_epochs_step_outside_the_epoch_is_refused(epoch, step):
    with pytest.raises(IndexError):
        ShuffledEpochs(np.arange(8), 4, 0).batch(epoch, step)


@pytest.mark.parametrize(("rows", "size", "seed"), [(0, 4, 0), (8, 0, 0), (8, 4, -1)])
def test_shuffled_epochs_bad_arguments_are_refused(rows, size, seed):
    with pytest.raises(ValueError, match="Expected"):
        ShuffledEpochs(np.arange(rows), size, seed)


def test_prefetch_keeps_order_and_depth():
    read = []

    def items():
        for k in range(20):
            read.append(k)
            yield k

    ahead = prefetch(items(), depth=2)
    assert next(ahead) == 0
    time.sleep(0.3)
    # One handed out, two waiting, one in the producer's hand.
    assert len(read) <= 4
    assert list(ahead) == list(range(1, 20))


def test_prefetch_runs_in_the_background():
    def items():
        yield threading.current_thread().name

    assert list(prefetch(items())) == ["prefetch"]


def test_prefetch_raises_after_the_earlier_items():
    def items():
        yield 1
        raise OSError("disk gone")

    ahead = prefetch(items())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(ahead)


def test_prefetch_leaving_the_loop_stops_the_thread():
    def items():
        while True:
            yield 0

    before = threading.active_count()
    for _ in prefetch(items()):
        break
    ahead = prefetch(items())
    next(ahead)
    ahead.close()
    deadline = time.monotonic() + 10
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.02)
    assert threading.active_count() == before


def test_shuffled_epochs_drop_ragged_gives_full_batches():
    sampler = ShuffledEpochs(np.arange(100, 111), 4, 0, drop_ragged=True)
    assert sampler.steps_per_epoch == 2
    seen = set()
    for epoch in range(20):
        rows = np.concatenate([sampler.batch(epoch, step)[0] for step in range(2)])
        assert all(sampler.batch(epoch, step)[1].all() for step in range(2))
        assert len(set(rows)) == 8
        seen |= set(rows)
    assert seen == set(range(100, 111)), "no row may be left out for good"


def test_shuffled_epochs_drop_ragged_with_few_rows_gives_one_batch():
    sampler = ShuffledEpochs(np.arange(3), 8, 0, drop_ragged=True)
    rows, mask = sampler.batch(0, 0)
    assert sampler.steps_per_epoch == 1 and sorted(rows) == [0, 1, 2] and mask.all()


@pytest.mark.parametrize(
    ("real", "places", "kept"),
    [
        (0, 40, 16),
        (1, 40, 16),
        (16, 40, 16),
        (17, 40, 32),
        (33, 40, 40),
        (40, 40, 40),
        (0, 3, 3),
    ],
)
def test_without_spare_places_keeps_a_multiple_of_sixteen(real, places, kept):
    rows = np.full(places, -1)
    rows[:real] = 100 + np.arange(real)
    cut, mask = without_spare_places(rows, rows >= 0)
    assert cut.shape == mask.shape == (kept,)
    assert cut[mask].tolist() == list(range(100, 100 + real)), "no row may be lost"
    assert (cut[~mask] == -1).all()


def test_without_spare_places_other_multiple():
    rows = np.array([5, 3, 4, -1, -1, -1, -1])
    assert len(without_spare_places(rows, rows >= 0, 1)[0]) == 3
    assert len(without_spare_places(rows, rows >= 0, 5)[0]) == 5
