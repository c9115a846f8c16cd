"""Requests that wait together run together, and none suffers for another."""

import contextlib
import threading
import time

import numpy as np
import pytest

from tf_mtl_privacy.serving.server.batching import Batcher
from tf_mtl_privacy.serving.server.errors import Code, Refusal, invalid
from tf_mtl_privacy.serving.server.limits import Limits


class Doubling:
    """Doubles; refuses negative numbers; may be held up."""

    def __init__(self, scalar=False):
        self.runs, self.gate, self.scalar = [], threading.Event(), scalar
        self.entered = threading.Event()
        self.gate.set()

    def run(self, signature, inputs):
        self.entered.set()
        assert self.gate.wait(20)
        values = inputs["x"]
        self.runs.append((signature, len(values)))
        if (values < 0).any():
            raise invalid("negative")
        return {"y": np.array(2.0)} if self.scalar else {"y": values * 2}


@pytest.fixture
def batcher():
    made = []

    def make(**limits):
        made.append(Batcher(Limits(**({"merge_seconds": 0.0} | limits))))
        return made[-1]

    yield make
    for item in made:
        item.close()


def held(batcher, model):
    """Holds the model up in a first request; what is submitted after it waits."""
    model.gate.clear()
    first = batcher.submit(model, "s", {"x": np.zeros(1)}, 1)
    assert model.entered.wait(10)
    return first


def put(batcher, model, *values, signature="s"):
    return batcher.submit(model, signature, {"x": np.array(values, float)}, len(values))


def test_waiting_requests_are_merged_and_each_gets_its_rows(batcher):
    queue, model = batcher(), Doubling()
    held(queue, model)
    answers = [put(queue, model, 1), put(queue, model, 2, 3), put(queue, model, 4)]
    model.gate.set()
    assert [answer.result(10)["y"].tolist() for answer in answers] == [[2], [4, 6], [8]]
    assert model.runs == [("s", 1), ("s", 4)]


def test_only_what_is_alike_is_merged_up_to_the_limit(batcher):
    queue, model = batcher(merge_rows=3), Doubling()
    held(queue, model)
    answers = [put(queue, model, 1, 1), put(queue, model, 2, signature="t"), put(queue, model, 3)]
    answers += [put(queue, model, 4), put(queue, model, *[5] * 7)]
    model.gate.set()
    assert [answer.result(10)["y"][0] for answer in answers] == [2, 4, 6, 8, 10]
    assert model.runs[1:] == [("s", 3), ("t", 1), ("s", 1), ("s", 7)]


def test_rows_of_another_shape_are_not_merged(batcher):
    queue, model = batcher(), Doubling()
    held(queue, model)
    wide = queue.submit(model, "s", {"x": np.ones((2, 5))}, 2)
    narrow = put(queue, model, 1)
    model.gate.set()
    assert wide.result(10)["y"].shape == (2, 5) and narrow.result(10)["y"].shape == (1,)


def test_a_refused_request_fails_alone(batcher):
    queue, model = batcher(), Doubling()
    held(queue, model)
    answers = [put(queue, model, 1), put(queue, model, -1), put(queue, model, 2)]
    model.gate.set()
    assert answers[0].result(10)["y"] == [2] and answers[2].result(10)["y"] == [4]
    with pytest.raises(Refusal, match="negative"):
        answers[1].result(10)


def test_answers_that_cannot_be_told_apart_are_asked_for_one_by_one(batcher):
    queue, model = batcher(), Doubling(scalar=True)
    held(queue, model)
    answers = [put(queue, model, 1), put(queue, model, 2)]
    model.gate.set()
    assert [float(answer.result(10)["y"]) for answer in answers] == [2.0, 2.0]
    assert [rows for _, rows in model.runs] == [1, 2, 1, 1]


def test_a_full_queue_refuses_and_recovers(batcher):
    queue, model = batcher(queue=2), Doubling()
    held(queue, model)
    answers = [put(queue, model, 1), put(queue, model, 2)]
    with pytest.raises(Refusal, match="2 requests wait already") as refused:
        put(queue, model, 3)
    assert refused.value.code is Code.EXHAUSTED and len(queue) == 2
    model.gate.set()
    assert [answer.result(10)["y"][0] for answer in answers] == [2, 4]
    assert put(queue, model, 3).result(10)["y"] == [6]


def test_a_request_that_nobody_waits_for_is_not_run(batcher):
    queue, model = batcher(), Doubling()
    held(queue, model)
    given_up, other = put(queue, model, 1), put(queue, model, 2)
    assert given_up.cancel()
    model.gate.set()
    assert other.result(10)["y"] == [4] and model.runs[-1] == ("s", 1)


def test_it_waits_for_others_no_longer_than_said(batcher):
    queue, model = batcher(merge_seconds=0.3, merge_rows=2), Doubling()
    started = time.monotonic()
    assert put(queue, model, 1).result(10)["y"] == [2]
    assert time.monotonic() - started >= 0.29
    both = [put(queue, model, 1), put(queue, model, 2)]
    assert [answer.result(10)["y"][0] for answer in both] == [2, 4]
    assert model.runs == [("s", 1), ("s", 2)]


def test_merging_is_bounded_by_bytes_too(batcher):
    queue, model = batcher(merge_bytes=4 * 8), Doubling()
    held(queue, model)
    answers = [put(queue, model, 1, 1), put(queue, model, 2, 2), put(queue, model, 3)]
    answers += [put(queue, model, *[4] * 7)]
    model.gate.set()
    assert [answer.result(10)["y"][0] for answer in answers] == [2, 4, 6, 8]
    assert [rows for _, rows in model.runs] == [1, 4, 1, 7]


def test_requests_that_cannot_be_merged_for_memory_run_alone(batcher, monkeypatch):
    queue, model = batcher(), Doubling()
    held(queue, model)
    answers = [put(queue, model, 1), put(queue, model, 2)]

    def full(arrays):
        raise MemoryError

    monkeypatch.setattr("tf_mtl_privacy.serving.server.batching.np.concatenate", full)
    model.gate.set()
    assert [answer.result(10)["y"][0] for answer in answers] == [2, 4]
    assert [rows for _, rows in model.runs] == [1, 1, 1]


@pytest.mark.parametrize("requests", [1, 2])
def test_a_failure_outside_of_the_model_does_not_end_its_thread(requests):
    failures = iter([MemoryError("no memory to count")])

    def ran(rows):
        for failure in failures:
            raise failure

    queue, model = Batcher(Limits(merge_seconds=0.3, merge_rows=requests), ran), Doubling()
    for answer in [put(queue, model, 1) for _ in range(requests)]:
        with contextlib.suppress(MemoryError):
            assert answer.result(10)["y"] == [2]
    assert put(queue, model, 3).result(10)["y"] == [6]
    queue.close()


def test_closing_answers_what_waits_and_takes_no_more(batcher):
    queue, model = batcher(), Doubling()
    held(queue, model)
    waiting = put(queue, model, 1)
    closing = threading.Thread(target=queue.close)
    closing.start()
    model.gate.set()
    closing.join(10)
    assert waiting.result(0)["y"] == [2]
    with pytest.raises(Refusal, match="stopping") as refused:
        put(queue, model, 1)
    assert refused.value.code is Code.UNAVAILABLE
