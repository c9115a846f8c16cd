"""Batching: compatible requests run together, and errors stay with their own request."""

import contextlib
import threading
import time

import numpy as np
import pytest

from tf_mtl_privacy.serving.server.batching import Batcher
from tf_mtl_privacy.serving.server.errors import Code, RequestError, invalid
from tf_mtl_privacy.serving.server.limits import Limits


class Doubling:
    """Doubles its input, refuses negative numbers, and can be blocked."""

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
        made.append(Batcher(Limits(**({"batch_timeout_seconds": 0.0} | limits))))
        return made[-1]

    yield make
    for opened in made:
        opened.close()


def block(batcher, model):
    """Blocks the model in a first request, so that later requests wait."""
    model.gate.clear()
    first = batcher.submit(model, "s", {"x": np.zeros(1)}, 1)
    assert model.entered.wait(10)
    return first


def put(batcher, model, *values, signature="s"):
    return batcher.submit(model, signature, {"x": np.array(values, float)}, len(values))


def first_rows(answers):
    return [float(answer.result(10)["y"].flat[0]) for answer in answers]


def test_batcher_waiting_requests_run_together_and_get_their_rows(batcher):
    queue, model = batcher(), Doubling()
    block(queue, model)
    answers = [put(queue, model, 1), put(queue, model, 2, 3), put(queue, model, 4)]
    model.gate.set()
    assert [answer.result(10)["y"].tolist() for answer in answers] == [[2], [4, 6], [8]]
    assert model.runs == [("s", 1), ("s", 4)]


@pytest.mark.parametrize("limits", [{"max_batch_size": 3}, {"max_batch_bytes": 3 * 8}])
def test_batcher_other_signatures_shapes_and_full_batches_run_separately(batcher, limits):
    queue, model = batcher(**limits), Doubling()
    block(queue, model)
    answers = [put(queue, model, 1, 1), put(queue, model, 2, signature="t"), put(queue, model, 3)]
    answers += [put(queue, model, 4), put(queue, model, *[5] * 7)]
    answers += [queue.submit(model, "s", {"x": np.full((1, 2), 6.0)}, 1)]
    model.gate.set()
    assert first_rows(answers) == [2, 4, 6, 8, 10, 12]
    assert answers[-1].result()["y"].shape == (1, 2)
    assert model.runs[1:] == [("s", 3), ("t", 1), ("s", 1), ("s", 7), ("s", 1)]


def test_batcher_refused_input_fails_its_own_request(batcher):
    queue, model = batcher(), Doubling()
    block(queue, model)
    answers = [put(queue, model, 1), put(queue, model, -1), put(queue, model, 2)]
    model.gate.set()
    assert answers[0].result(10)["y"] == [2] and answers[2].result(10)["y"] == [4]
    with pytest.raises(RequestError, match="negative"):
        answers[1].result(10)


@pytest.mark.parametrize("reason", ["outputs without rows", "no memory for a batch"])
def test_batcher_batch_that_cannot_run_is_computed_one_by_one(batcher, monkeypatch, reason):
    no_memory = reason == "no memory for a batch"
    queue, model = batcher(), Doubling(scalar=not no_memory)
    block(queue, model)
    answers = [put(queue, model, 1), put(queue, model, 2)]

    def fail(arrays):
        raise MemoryError

    if no_memory:
        monkeypatch.setattr("tf_mtl_privacy.serving.server.batching.np.concatenate", fail)
    model.gate.set()
    assert first_rows(answers) == ([2, 4] if no_memory else [2, 2])
    assert [rows for _, rows in model.runs] == ([1, 1, 1] if no_memory else [1, 2, 1, 1])


def test_batcher_full_queue_refuses_and_recovers(batcher):
    queue, model = batcher(max_queued_requests=2), Doubling()
    block(queue, model)
    answers = [put(queue, model, 1), put(queue, model, 2)]
    with pytest.raises(RequestError, match="2 requests are waiting already") as refused:
        put(queue, model, 3)
    assert refused.value.code is Code.EXHAUSTED and len(queue) == 2
    model.gate.set()
    assert first_rows(answers) == [2, 4]
    assert put(queue, model, 3).result(10)["y"] == [6]


def test_batcher_cancelled_request_is_not_run(batcher):
    queue, model = batcher(), Doubling()
    block(queue, model)
    given_up, other = put(queue, model, 1), put(queue, model, 2)
    assert given_up.cancel()
    model.gate.set()
    assert other.result(10)["y"] == [4] and model.runs[-1] == ("s", 1)


def test_batcher_timeout_ends_the_wait_for_other_requests(batcher):
    queue, model = batcher(batch_timeout_seconds=0.3, max_batch_size=2), Doubling()
    started = time.monotonic()
    assert put(queue, model, 1).result(10)["y"] == [2]
    assert time.monotonic() - started >= 0.29
    both = [put(queue, model, 1), put(queue, model, 2)]
    assert first_rows(both) == [2, 4]
    assert model.runs == [("s", 1), ("s", 2)]


@pytest.mark.parametrize("requests", [1, 2])
def test_batcher_failure_outside_the_model_keeps_the_thread_alive(requests):
    failures = iter([MemoryError("no memory to count")])

    def ran(rows):
        for failure in failures:
            raise failure

    queue, model = (
        Batcher(Limits(batch_timeout_seconds=0.3, max_batch_size=requests), ran),
        Doubling(),
    )
    for answer in [put(queue, model, 1) for _ in range(requests)]:
        with contextlib.suppress(MemoryError):
            assert answer.result(10)["y"] == [2]
    assert put(queue, model, 3).result(10)["y"] == [6]
    queue.close()


def test_batcher_close_answers_waiting_requests_and_refuses_new_ones(batcher):
    queue, model = batcher(), Doubling()
    block(queue, model)
    waiting = put(queue, model, 1)
    closing = threading.Thread(target=queue.close)
    closing.start()
    model.gate.set()
    closing.join(10)
    assert waiting.result(0)["y"] == [2]
    with pytest.raises(RequestError, match="stopping") as refused:
        put(queue, model, 1)
    assert refused.value.code is Code.UNAVAILABLE
