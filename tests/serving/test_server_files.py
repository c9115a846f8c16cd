"""Files for TensorFlow Serving and Docker: parsed by the official definitions, and run."""

import http.server
import json
import shutil
import subprocess
import threading

import pytest
import yaml
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from google.protobuf import wrappers_pb2 as wrappers
from tensorflow_serving.config import model_server_config_pb2

from tf_mtl_privacy.export.server_files import health_check, server_files, write_server_files

FILES = server_files("faces", "2.21.0")
FIELD = descriptor_pb2.FieldDescriptorProto


def message(name, *imported, **fields):
    """Defines a message type missing in the stubs: field -> (number, type or message, label)."""
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


def test_models_config_is_parsed_by_the_official_stubs():
    parsed = text_format.Parse(
        FILES["models.config"], model_server_config_pb2.ModelServerConfig()
    ).model_config_list.config
    (model,) = parsed
    assert (model.name, model.base_path) == ("faces", "/models/faces")
    assert model.model_platform == "tensorflow"
    assert model.model_version_policy.latest.num_versions == 1


def test_batching_and_monitoring_files_match_the_published_definitions():
    """The stubs lack both messages; the fields are those of TensorFlow Serving's definitions."""
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
    # session_bundle_config.proto requires both.
    assert sizes == sorted(set(sizes)) and sizes[-1] == found.max_batch_size.value
    message("PrometheusConfig", enable=(1, FIELD.TYPE_BOOL, one), path=(2, FIELD.TYPE_STRING, one))
    monitoring = message(
        "MonitoringConfig",
        "PrometheusConfig.proto",
        prometheus_config=(1, ".t.PrometheusConfig", one),
    )
    found = text_format.Parse(FILES["monitoring.config"], monitoring())
    assert found.prometheus_config.enable and found.prometheus_config.path.startswith("/")


def test_dockerfile_and_compose_file_agree():
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
def test_health_check_succeeds_for_an_available_model_only(monkeypatch):
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
    assert not healthy("faces"), "no server is listening"


def test_write_server_files_changed_files_are_not_overwritten(tmp_path):
    assert write_server_files(tmp_path, "faces", "2.21.0") == []
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
    (tmp_path / "models.config").write_text("mine")
    assert write_server_files(tmp_path, "faces", "2.21.0") == ["models.config"]
    assert (tmp_path / "models.config").read_text() == "mine"
