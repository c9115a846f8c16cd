"""The `serve` command: its output, its shutdown, and flags that it refuses."""

import os
import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest

from tests.serving.server.toy import pixels
from tf_mtl_privacy.cli import serve
from tf_mtl_privacy.cli.flags import HelpRequested, parse
from tf_mtl_privacy.cli.serve import main
from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.serving.server.running import CheckServer


@pytest.mark.timeout(240)  # it reads until the last line of the start
def test_serve_answers_on_loopback_until_sigterm(toy_dir, tmp_path):
    flags = [f"--export_dir={toy_dir}", "--port=0", "--grpc_port=0"]
    command = [sys.executable, "-m", "tf_mtl_privacy.serve", *flags]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        addresses = {}
        for line in process.stdout:
            words = line.split()
            addresses[words[0]] = words[-1]
            if line.startswith("Press Ctrl-C"):
                break
        assert addresses["page"].startswith("http://127.0.0.1:")
        assert addresses["REST"].endswith("toy:predict")
        request = {"signature_name": "classify", "instances": pixels(1).tolist()}
        assert httpx.post(addresses["REST"], json=request, trust_env=False).status_code == 200
        refused = httpx.post(addresses["REST"], content=b"{", trust_env=False)
        assert refused.status_code == 400
        os.kill(process.pid, signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    # Neither requests nor errors are logged.
    assert process.returncode == 0 and errors == ""
    assert list(tmp_path.iterdir()) == []


def test_stop_answers_accepted_requests_first(toy_dir):
    import concurrent.futures

    request = {"signature_name": "classify", "instances": pixels(8).tolist()}
    with CheckServer(toy_dir, "toy", poll_seconds=3600) as server:
        url = f"{server.url}/v1/models/toy:predict"
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            answers = [
                pool.submit(httpx.post, url, json=request, trust_env=False, timeout=60)
                for _ in range(8)
            ]
            next(concurrent.futures.as_completed(answers))
            server.stop()
            codes = []
            for answer in answers:
                try:
                    codes.append(answer.result().status_code)
                except httpx.TransportError:
                    codes.append(None)
    # A request that was not accepted finds no server; no answer is cut off.
    assert set(codes) <= {200, 503, None} and codes.count(200) >= 1


def test_check_server_taken_port_raises(toy_dir):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"--port={port}: cannot listen there"):
            CheckServer(toy_dir, "toy", port=port)
        with pytest.raises(RunError, match=f"--grpc_port={port}: cannot listen"):
            CheckServer(toy_dir, "toy", grpc_port=port)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "--export_dir=: expected a folder"),
        (["--export_dir=nowhere"], "--export_dir=nowhere: no such folder"),
        (["--export_dir=x", "--port=70000"], "--port=70000: expected a port"),
        (["--export_dir=x", "--port=80", "--grpc_port=80"], "--grpc_port=80: expected a port"),
        (["--export_dir=x", "--client_seconds=0"], "--client_seconds=0"),
    ],
)
def test_serve_wrong_flags_are_refused(flags, words):
    with pytest.raises(UsageError) as refused:
        main(parse("serve", flags))
    assert words in str(refused.value)


def test_serve_folder_without_version_is_refused_before_tensorflow_loads(tmp_path, monkeypatch):
    monkeypatch.setattr(serve, "load_tensorflow", lambda: pytest.fail("too early"))
    with pytest.raises(
        UsageError, match=r"such as .*/1, as written by python -m tf_mtl_privacy\.export"
    ):
        main(parse("serve", [f"--export_dir={tmp_path}"]))


@pytest.mark.parametrize("package", ["fastapi", "grpc"])
def test_serve_missing_package_names_the_documented_command(
    repo_root, tmp_path, monkeypatch, package
):
    (tmp_path / "1").mkdir()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RunError, match=f"the package {package} is missing") as error:
        main(parse("serve", [f"--export_dir={tmp_path}"]))
    (command,) = re.findall(r"pip install '\.\[serving\]'", str(error.value))
    for page in ("README.md", "docs/serving.md", "docs/export.md", "docs/api/serving.md"):
        assert command in (repo_root / page).read_text(), page


def test_serve_help_names_tensorflow_serving():
    with pytest.raises(HelpRequested) as asked:
        parse("serve", ["--help"])
    assert "stand-in for TensorFlow Serving" in str(asked.value)
    assert parse("serve", ["--export_dir=x"]).options.host == "127.0.0.1"
