import pytest

from tests.serving.runs import covered_run, noisy_run
from tf_mtl_privacy.serving.exporting import export_run

CARD = {"summary": "Nothing is claimed.", "released": {"encoder": None}}


@pytest.fixture(scope="session")
def covered():
    return covered_run()


@pytest.fixture(scope="session")
def exported(covered, tmp_path_factory):
    """The covered run as version 1 of a model's folder."""
    return export_run(covered, tmp_path_factory.mktemp("export") / "faces", CARD, name="faces")


@pytest.fixture(scope="session")
def noisy():
    return noisy_run()


@pytest.fixture(scope="session")
def exported_noisy(noisy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "noisy"
    return export_run(noisy, folder, CARD, name="noisy", version=7, with_discriminator=True)
