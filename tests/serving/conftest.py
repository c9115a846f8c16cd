import threading
from typing import NamedTuple

import pytest
import tensorflow as tf

from tests.serving.exports import CARD, covered_run, noisy_run, watch
from tf_mtl_privacy.export.exporting import Exported, export_run


class Watched(NamedTuple):
    """An export, and the versions that a polling server saw during it; see `watch`."""

    exported: Exported
    seen: list[dict[str, bool]]


@pytest.fixture(scope="session")
def covered():
    return covered_run()


@pytest.fixture(scope="session")
def watched(covered, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "faces"
    done, seen = threading.Event(), []
    server = threading.Thread(target=lambda: seen.extend(watch(folder, done)))
    server.start()
    try:
        exported = export_run(covered, folder, CARD, name="faces")
    finally:
        done.set()
        server.join()
    return Watched(exported, seen)


@pytest.fixture(scope="session")
def exported(watched):
    """The covered run, exported as version 1."""
    return watched.exported


@pytest.fixture(scope="session")
def loaded(exported):
    return tf.saved_model.load(str(exported.folder))


@pytest.fixture(scope="session")
def noisy():
    return noisy_run()


@pytest.fixture(scope="session")
def exported_noisy(noisy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "noisy"
    return export_run(noisy, folder, CARD, name="noisy", version=7, with_discriminator=True)
