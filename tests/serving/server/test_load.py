"""benchmarks/load_test.py and the targets of benchmarks/serving.py, in small."""

import contextlib
import re
import types

import numpy as np
import pytest

from tests.serving.server.toy import expected, pixels, png


@pytest.fixture
def peers(repo_root, monkeypatch):
    monkeypatch.syspath_prepend(str(repo_root / "benchmarks" / "peers"))


def test_the_load_test_ends_by_itself_without_an_error(toy_dir, repo_root, python):
    script = repo_root / "benchmarks" / "load_test.py"
    done = python(script, f"--export_dir={toy_dir}", "--clients=8", "--seconds=2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"requests +\d+, ", done.stdout) and "errors         0\n" in done.stdout
    assert "faults wrong   0\n" in done.stdout
    assert re.search(r"server memory +(\d+, ){6}\d+ MiB", done.stdout)


def test_targets_behind_the_server_answer_the_same(server, toy_dir, peers, monkeypatch):
    import server_targets
    from check_server import Running

    # Starting one is what the test above does.
    here = Running(server.url, server.grpc_address, "toy", None)
    monkeypatch.setattr(server_targets, "running", lambda folder: contextlib.nullcontext(here))
    images = pixels(3)
    asked = types.SimpleNamespace(
        folder=toy_dir / "1", images=images, files=[png(image) for image in images]
    )
    for target in (server_targets.grpc_classify, server_targets.rest_default):
        with target(asked) as ask:
            found = ask(slice(1, 3))
        np.testing.assert_allclose(
            found["gender_probabilities"], expected(images[1:])["gender"], atol=1e-6
        )
