"""What a saved configuration may hold: absolute places, and objects with options."""

import pytest

from tests.cli.parsing import in_an_empty_folder, refused, train  # noqa: F401


def test_given_places_are_kept_as_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "elsewhere" / "w.weights.h5").touch()
    config = train("--data_dir=faces/", "--cache_dir=~/c", "--encoder_weights=w.weights.h5").config
    assert config.data.data_dir == str(tmp_path / "elsewhere" / "faces")
    assert config.data.cache_dir == str(tmp_path / "c")
    assert config.model.encoder_weights == str(tmp_path / "elsewhere" / "w.weights.h5")
    # Words stay words.
    config = train("--cache_dir=", "--encoder_weights=none", "--perceptual_weights=imagenet").config
    assert (config.data.cache_dir, config.model.encoder_weights) == ("", "none")
    assert config.loss.perceptual_weights == "imagenet"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[]", "expected an object"),
        ("null", "expected an object"),
        ('{"data": 3}', "section 'data' is 3: expected an object"),
        ('{"data": null}', "section 'data' is None: expected an object"),
        ('{"data": {"dataset": 3}}', "--dataset=3: expected a value of type str"),
        ('{"data": {"rows": 3}}', "section 'data' has no option 'rows'"),
    ],
)
def test_a_saved_configuration_that_is_none(tmp_path, content, words):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(content)
    assert words in refused(f"--config={folder / 'config.json'}")
    line = refused(f"--run_dir={folder}", verb="evaluate")
    assert words in line and f"--run_dir={folder}" in line
