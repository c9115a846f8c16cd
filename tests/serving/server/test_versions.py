"""Versions: newer ones are picked up, broken ones skipped; recorded requests warm them up."""

import threading
import time

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.serving.server.toy import expected, pixels, save_toy
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.serving.server.errors import Code, RequestError
from tf_mtl_privacy.serving.server.model import recorded_requests, warm_up
from tf_mtl_privacy.serving.server.versions import Poller, Versions


@pytest.fixture
def folder(tmp_path):
    return save_toy(tmp_path / "toy", warmup=False)


def test_versions_refresh_loads_newer_and_skips_broken_versions(folder):
    lines = []
    served = Versions(folder, "toy", report=lines.append)
    assert served.newest.version == 1
    save_toy(folder, version=10, shift=0.25, warmup=False)
    (folder / ".export-abc").mkdir()
    served.refresh()
    images = pixels(2)
    outputs = served.newest.run("classify", {"images": images})
    assert served.newest.version == 10
    assert outputs["gender_probabilities"] == pytest.approx(
        expected(images, 0.25)["gender"], abs=1e-6
    )
    (folder / "11").mkdir()
    (folder / "11" / "saved_model.pb").write_bytes(b"nothing")
    for _ in range(2):
        served.refresh()
    assert served.find("toy", None).version == 10 == served.find("toy", 10).version
    with pytest.raises(RequestError) as refused:
        served.find("toy", 1)
    assert refused.value.code is Code.NOT_FOUND and "version 10" in str(refused.value)
    assert len(lines) == 3 and lines[-1].startswith("still serving version 10: ")
    assert "\n" not in lines[-1]


def test_versions_without_a_loadable_version_raise(tmp_path):
    with pytest.raises(UsageError, match="a folder with a version in it"):
        Versions(tmp_path, "toy")
    (tmp_path / "3").mkdir()
    with pytest.raises(RunError, match="cannot be loaded as a SavedModel") as refused:
        Versions(tmp_path, "toy")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("damage", ["truncated", "no record", "no tensor"])
def test_versions_damaged_warm_up_file_skips_the_version(folder, damage):
    lines = []
    served = Versions(folder, "toy", warm_up, lines.append)
    warmup = save_toy(folder, version=2) / "2" / "assets.extra" / "tf_serving_warmup_requests"
    if damage == "truncated":
        warmup.write_bytes(warmup.read_bytes()[:-9])
    else:
        with tf.io.TFRecordWriter(str(warmup)) as writer:
            writer.write(b"\xff" if damage == "no record" else without_values())
    for _ in range(2):
        served.refresh()
    assert served.newest.version == 1 and len(lines) == 2
    assert lines[1].startswith("still serving version 1: ") and "\n" not in lines[1]
    save_toy(folder, version=3)
    served.refresh()
    assert served.newest.version == 3


def without_values():
    """A recorded request with a tensor that lacks values for its shape."""
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = "classify"
    tensor = request.inputs["images"]
    tensor.dtype = tf.uint8.as_datatype_enum
    tensor.tensor_content = b"12345"
    tensor.tensor_shape.dim.add(size=7)
    return log.SerializeToString()


@pytest.mark.parametrize("fails", [False, True])
def test_poller_calls_until_closed_and_reports_the_same_failure_once(fails):
    calls, lines, fourth = [], [], threading.Event()

    def function():
        calls.append(1)
        if len(calls) == 4:
            fourth.set()
        if fails:
            raise OSError("the folder\nis away")

    poller = Poller(function, 0.01, lines.append)
    assert fourth.wait(10)
    poller.close()
    done = len(calls)
    time.sleep(0.05)
    assert len(calls) == done
    assert lines == ["cannot check for a newer version: OSError: the folder is away"] * fails


def test_warm_up_runs_one_recorded_request_for_each_signature(server):
    model = server.service.versions.newest
    assert sorted(name for name, _ in recorded_requests(model)) == sorted(model.inputs)
    assert warm_up(model) == len(model.inputs) == 4
