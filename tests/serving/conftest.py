import dataclasses
import threading

import pytest
import tensorflow as tf

from tests.serving.runs import CARD, covered_run, noisy_run
from tests.serving.watching import watch
from tf_mtl_privacy.export.exporting import Exported, export_run


@dataclasses.dataclass(frozen=True)
class Watched:
    """An export, and what a server that polls the folder has seen of it."""

    exported: Exported
    looks: int
    seen: list[dict[str, bool]]


@pytest.fixture(scope="session")
def covered():
    return covered_run()


@pytest.fixture(scope="session")
def watched(covered, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "faces"
    done, found = threading.Event(), []
    server = threading.Thread(target=lambda: found.append(watch(folder, done)))
    server.start()
    try:
        exported = export_run(covered, folder, CARD, name="faces")
    finally:
        done.set()
        server.join()
    return Watched(exported, *found[0])


@pytest.fixture(scope="session")
def exported(watched):
    """The covered run as version 1 of a model's folder."""
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
