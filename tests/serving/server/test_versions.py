"""The newest version is served, a newer one is picked up, a broken one is left alone."""

import threading
import time

import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from tests.serving.server.toy import expected, pixels, save_toy
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.serving.server.errors import Code, Refusal
from tf_mtl_privacy.serving.server.model import recorded, replay
from tf_mtl_privacy.serving.server.versions import Poller, Versions


@pytest.fixture
def folder(tmp_path):
    return save_toy(tmp_path / "toy", warmup=False)


def test_a_newer_version_is_picked_up_and_a_broken_one_left(folder):
    told = []
    found = Versions(folder, "toy", tell=told.append)
    assert found.newest.version == 1
    save_toy(folder, version=10, shift=0.25, warmup=False)
    (folder / ".export-abc").mkdir()
    found.look()
    images = pixels(2)
    outputs = found.newest.run("classify", {"images": images})
    assert found.newest.version == 10
    assert outputs["gender_probabilities"] == pytest.approx(
        expected(images, 0.25)["gender"], abs=1e-6
    )
    (folder / "11").mkdir()
    (folder / "11" / "saved_model.pb").write_bytes(b"nothing")
    for _ in range(2):
        found.look()
    assert found.find("toy", None).version == 10 == found.find("toy", 10).version
    with pytest.raises(Refusal) as refused:
        found.find("toy", 1)
    assert refused.value.code is Code.NOT_FOUND and "version 10" in str(refused.value)
    assert len(told) == 3 and told[-1].startswith("kept version 10") and "\n" not in told[-1]


def test_a_folder_without_a_version_that_loads(tmp_path):
    with pytest.raises(UsageError, match="a folder with a version in it"):
        Versions(tmp_path, "toy")
    (tmp_path / "3").mkdir()
    with pytest.raises(RunError, match="cannot be loaded as a SavedModel") as refused:
        Versions(tmp_path, "toy")
    assert "\n" not in str(refused.value)


def test_a_poller_looks_until_it_is_closed():
    looks, third = [], threading.Event()

    def look():
        looks.append(1)
        if len(looks) == 3:
            third.set()

    poller = Poller(look, 0.01)
    assert third.wait(10)
    poller.close()
    done = len(looks)
    time.sleep(0.05)
    assert len(looks) == done


@pytest.mark.parametrize("damage", ["truncated", "no record", "no tensor"])
def test_a_version_with_damaged_warm_up_requests_is_left_alone(folder, damage):
    told = []
    found = Versions(folder, "toy", replay, told.append)
    warmup = save_toy(folder, version=2) / "2" / "assets.extra" / "tf_serving_warmup_requests"
    if damage == "truncated":
        warmup.write_bytes(warmup.read_bytes()[:-9])
    else:
        with tf.io.TFRecordWriter(str(warmup)) as writer:
            writer.write(b"\xff" if damage == "no record" else without_values())
    for _ in range(2):
        found.look()
    assert found.newest.version == 1 and len(told) == 2
    assert told[1].startswith("kept version 1: ") and "\n" not in told[1]
    save_toy(folder, version=3)
    found.look()
    assert found.newest.version == 3


def without_values():
    """A recorded request whose tensor has no values for its shape."""
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = "classify"
    tensor = request.inputs["images"]
    tensor.dtype = tf.uint8.as_datatype_enum
    tensor.tensor_content = b"12345"
    tensor.tensor_shape.dim.add(size=7)
    return log.SerializeToString()


def test_a_poller_survives_a_look_that_fails():
    looks, told, fourth = [], [], threading.Event()

    def look():
        looks.append(1)
        if len(looks) == 4:
            fourth.set()
        raise OSError("the folder\nis away")

    poller = Poller(look, 0.01, told.append)
    assert fourth.wait(10)
    poller.close()
    assert told == ["cannot look for a newer version: OSError: the folder is away"]


def test_recorded_requests_are_replayed(server):
    model = server.service.versions.newest
    assert sorted(name for name, _ in recorded(model)) == sorted(model.inputs)
    assert replay(model) == len(model.inputs) == 4
