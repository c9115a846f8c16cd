"""What lies beside the graph, and the files that run a server on it."""

import dataclasses
import http.server
import json
import re
import shutil
import subprocess
import threading

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf import wrappers_pb2 as wrappers
from tensorflow_serving.config import model_server_config_pb2

from tests.serving.runs import CARD, PRIVATE
from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import Config
from tf_mtl_privacy.export.extra_files import (
    health_check,
    server_files,
    without_places,
    write_server_files,
)

FILES = server_files("faces", "2.21.0")
FIELD = descriptor_pb2.FieldDescriptorProto


def extra(exported, name):
    return json.loads((exported.folder / "assets.extra" / name).read_text())


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_the_check_of_checksums_in_the_docs_sees_damage(exported, repo_root, tmp_path):
    page = (repo_root / "docs" / "export.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^cd exports/demo/1 && (.*?)\n```", page, re.DOTALL | re.MULTILINE)
    copied = shutil.copytree(exported.folder, tmp_path / "1")

    def check():
        return subprocess.run(["bash", "-c", line], cwd=copied, capture_output=True, text=True)

    assert (check().returncode, check().stdout) == (0, "")
    (weights,) = (copied / "variables").glob("variables.data*")
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert check().returncode != 0 and weights.name in check().stdout
    weights.unlink()
    assert check().returncode != 0


def message(name, *imported, **fields):
    """A message type that the stubs lack: field -> (number, its type, or the name of a message)."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{name}.proto", package="t", syntax="proto3")
    file.dependency.extend([wrappers.DESCRIPTOR.name, *imported])
    pool = descriptor_pool.Default()
    described = file.message_type.add(name=name)
    for field, (number, kind, label) in fields.items():
        added = described.field.add(name=field, number=number, label=label)
        if isinstance(kind, str):
            added.type, added.type_name = FIELD.TYPE_MESSAGE, kind
        else:
            added.type = kind
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}"))


def test_card_labels_and_configuration(exported, covered):
    assert extra(exported, "privacy_card.json") == CARD
    labels = extra(exported, "labels.json")
    assert labels == exported.labels
    assert [entry["task"] for entry in labels["tasks"]] == list(covered.task_classes)
    assert labels["tasks"][1]["classes"] == ["young", "middle", "old"]
    assert (labels["image_size"], labels["crop"], labels["version"]) == (32, "center", 1)
    regions = labels["signatures"]["sensitive_regions"]
    assert regions["inputs"] == {"images": {"dtype": "uint8", "shape": [None, None, None, 3]}}
    assert regions["outputs"] == {"map": {"dtype": "float32", "shape": [None, 32, 32]}}
    default = labels["signatures"]["serving_default"]
    assert default["inputs"] == {"image_bytes": {"dtype": "string", "shape": [None]}}
    assert default["outputs"]["age_probabilities"]["shape"] == [None, 3]
    assert Config.from_dict(extra(exported, "config.json")) == without_places(covered.config)


def test_nobody_s_names_and_no_places_are_given_away(exported):
    for path in exported.folder.rglob("*.json"):
        assert not [name for name in PRIVATE if f'"{name}"' in path.read_text()]
    data = dataclasses.replace(
        tiny_config().data, dataset="celeba", data_dir="/a/b/faces", cache_dir="/c"
    )
    config = dataclasses.replace(tiny_config("stl"), data=data)
    kept = without_places(config)
    assert (kept.data.data_dir, kept.data.cache_dir) == ("faces", "")
    assert Config.from_dict(kept.to_dict()) == kept


def test_configuration_of_the_server_by_the_official_stubs():
    parsed = text_format.Parse(
        FILES["models.config"], model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    (model,) = parsed
    assert (model.name, model.base_path) == ("faces", "/models/faces")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 1


def test_batching_and_monitoring_by_their_published_definitions():
    """The stubs lack both messages; names and numbers of fields are those of TensorFlow Serving."""
    one, many = FIELD.LABEL_OPTIONAL, FIELD.LABEL_REPEATED
    whole = ".google.protobuf.Int64Value"
    batching = message(
        "BatchingParameters",
        max_batch_size=(1, whole, one),
        batch_timeout_micros=(2, whole, one),
        max_enqueued_batches=(3, whole, one),
        num_batch_threads=(4, whole, one),
        allowed_batch_sizes=(6, FIELD.TYPE_INT64, many),
    )
    found = text_format.Parse(FILES["batching_parameters.txt"], batching())
    sizes = list(found.allowed_batch_sizes)
    # Both are asked for by session_bundle_config.proto.
    assert sizes == sorted(set(sizes)) and sizes[-1] == found.max_batch_size.value
    message("PrometheusConfig", enable=(1, FIELD.TYPE_BOOL, one), path=(2, FIELD.TYPE_STRING, one))
    monitoring = message(
        "MonitoringConfig",
        "PrometheusConfig.proto",
        prometheus_config=(1, ".t.PrometheusConfig", one),
    )
    found = text_format.Parse(FILES["monitoring.config"], monitoring())
    assert found.prometheus_config.enable and found.prometheus_config.path.startswith("/")


def test_docker_files_start_the_same_server_with_the_same_health_check():
    (name, service), *others = yaml.safe_load(FILES["compose.yaml"])["services"].items()
    assert (name, others) == ("faces", []) and "./:/models/faces:ro" in service["volumes"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    check = ["CMD", "bash", "-c", health_check("faces")]
    assert service["healthcheck"]["test"] == check
    lines = FILES["Dockerfile"].replace("\\\n", " ").splitlines()
    by_word = {line.split()[0]: line for line in lines if not line.startswith("#")}
    assert json.loads(by_word["HEALTHCHECK"].partition("CMD")[2]) == check[1:]
    assert json.loads(by_word["CMD"].partition(" ")[2]) == service["command"]
    for argument in service["command"]:
        flag, _, path = argument.partition("=")
        folder, _, file = path.rpartition("/")
        assert folder == "/models/faces" and file in FILES and flag.endswith("_config_file")


class _Answers(http.server.BaseHTTPRequestHandler):
    state, error = "AVAILABLE", "OK"

    def do_GET(self):
        known = self.path == "/v1/models/faces"
        version = {"state": self.state, "status": {"error_code": self.error}}
        body = json.dumps({"model_version_status": [version]} if known else {})
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *args):
        pass


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_health_check_tells_a_model_that_answers_from_one_that_does_not(monkeypatch):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def healthy(name):
        line = health_check(name).replace("8501", str(port))
        return subprocess.run(["bash", "-c", line], capture_output=True, timeout=30).returncode == 0

    try:
        assert healthy("faces") and not healthy("others")
        monkeypatch.setattr(_Answers, "state", "LOADING")
        assert not healthy("faces")
        monkeypatch.setattr(_Answers, "state", "END")
        monkeypatch.setattr(_Answers, "error", "UNAVAILABLE")
        assert not healthy("faces")
    finally:
        server.shutdown()
        server.server_close()
    assert not healthy("faces"), "nobody listens"


def test_server_files_that_somebody_changed_are_kept(tmp_path):
    assert write_server_files(tmp_path, "faces", "2.21.0") == []
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    (tmp_path / "models.config").write_text("mine")
    assert write_server_files(tmp_path, "faces", "2.21.0") == ["models.config"]
    assert (tmp_path / "models.config").read_text() == "mine"
