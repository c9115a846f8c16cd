"""The export command: what it writes and says, and requests that it refuses."""

import json
import shutil

import pytest

from tf_mtl_privacy.cli.main import execute


def run(*arguments):
    return execute("export", list(arguments))


def test_a_trained_run_is_exported_and_the_next_one_is_version_2(trained, tmp_path, capsys):
    run_dir, target = f"--run_dir={trained[0]}", tmp_path / "model"
    assert run(run_dir, f"--export_dir={target}", "--name=tiny") == 0
    said = capsys.readouterr().out
    assert f"Exported tiny version 1: {target / '1'}" in said
    assert "serving_default: image_bytes -> attributes (gender, age, expression)" in said
    assert "no sensitive_regions: without a mask the map needs the discriminator" in said
    assert "Privacy: " in said
    extra = target / "1" / "assets.extra"
    card = json.loads((extra / "privacy_card.json").read_text())
    assert card["released"] and f"Privacy: {card['summary']}" in said
    files = [path for path in target.rglob("*") if path.is_file()]
    assert len(files) > 10 and not [path for path in files if path.stat().st_mode & 0o077]
    assert 'name: "tiny"' in (target / "models.config").read_text()

    again = (run_dir, f"--export_dir={target}", "--name=other", "--include_discriminator")
    assert run(*again, "--tflite=int8", "--onnx") == 0
    said = capsys.readouterr().out
    results = json.loads((trained[0] / "results.json").read_text())
    for file, dtype, least in (("int8.tflite", "uint8", 0.5), ("attributes.onnx", "float32", 1)):
        written = target / "device" / "2" / file
        report = json.loads(written.with_suffix(".json").read_text())
        assert f"For devices: {written}" in said and report["bytes"] == written.stat().st_size
        # The tiny run's 40 test rows; its own accuracy on them is that of its results.
        assert (report["rows"], report["input_dtype"]) == (40, dtype)
        for task, found in report["tasks"].items():
            assert found["original"]["accuracy"] == results["utility"][task]["accuracy"]
            assert found["device"]["n"] == 40 and least <= found["agreement"] <= 1
    assert "Exported other version 2" in said and "sensitive_regions: images -> map" in said
    assert "Left unchanged: models.config" in said
    assert run(*again, "--version=2") == 2
    assert "--version=2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--export_dir=out"], "export needs a trained run: give --run_dir=RUN_DIR"),
        (["--export_dir=out", "--run_dir=r"], "--run_dir=r: no such folder"),
        ([], "--export_dir=: expected a folder"),
        (["--export_dir=out", "--name=a b"], "--name=a b: expected letters"),
        (["--export_dir=out", "--version=-1"], "--version=-1: expected >= 0"),
    ],
)
def test_wrong_requests(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_run_without_results_is_told_how_to_get_them(trained, tmp_path, capsys):
    copy = shutil.copytree(trained[0], tmp_path / "run")
    (copy / "results.json").unlink()
    assert run(f"--run_dir={copy}", f"--export_dir={tmp_path / 'out'}") == 2
    error = capsys.readouterr().err
    assert "no results.json" in error and f"evaluate --run_dir={copy}" in error
    assert not (tmp_path / "out").exists()
