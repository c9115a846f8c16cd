"""What tests of flags share: parsing from an empty folder, and refusals as one line."""

import pytest

from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.errors import UsageError


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    """In force in the modules that import it."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    monkeypatch.chdir(folder)


def train(*argv):
    return parse("train", list(argv))


def refused(*argv, verb="train"):
    with pytest.raises(UsageError) as caught:
        parse(verb, list(argv))
    assert "\n" not in str(caught.value)
    return str(caught.value)
