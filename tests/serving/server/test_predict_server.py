"""`predict --server`: the same table as for a run, from a server's answers."""

import csv

import numpy as np
import pytest
from PIL import Image

from tests.serving.server.toy import CLASSES, SIZE, expected, pixels, png
from tf_mtl_privacy.cli.flags import parse
from tf_mtl_privacy.cli.predict import main
from tf_mtl_privacy.serving.client.picture_files import classify_files


@pytest.fixture
def folder(tmp_path):
    """Three pictures, one of them a PPM; a text file; a file that only a decoder refuses."""
    images, target = pixels(3), tmp_path / "pictures"
    target.mkdir()
    (target / "a.png").write_bytes(png(images[0]))
    (target / "b.png").write_bytes(png(images[1]))
    Image.fromarray(images[2]).save(target / "c.ppm")
    (target / "d.jpg").write_bytes(b"hello")
    content = png(images[0])
    (target / "e.png").write_bytes(content[:45] + bytes(9) + content[54:])
    return target, images


def predict(address, folder, *flags):
    return main(parse("predict", [f"--server={address}", "--model_name=toy", *flags, str(folder)]))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_predict_server_writes_table_and_restored_images(server, folder, tmp_path, capsys, scheme):
    path, images = folder
    address = server.url if scheme == "http" else f"grpc://{server.grpc_address}"
    output, restored = tmp_path / "new" / "out.csv", tmp_path / "restored"
    flags = (f"--output={output}", f"--restored_dir={restored}")
    assert predict(address, path, *flags) == 0
    rows = list(csv.DictReader(output.open()))
    assert [row["file"][-5:] for row in rows] == ["a.png", "b.png", "c.ppm", "d.jpg", "e.png"]
    for task, values in expected(images).items():
        found = [[float(row[f"{task}:{name}"]) for name in CLASSES[task]] for row in rows[:3]]
        np.testing.assert_allclose(found, values, atol=2e-6)
        assert [row[task] for row in rows] == [
            *(CLASSES[task][place] for place in values.argmax(1)),
            "",
            "",
        ]
    assert "not a JPEG" in rows[3]["error"] and rows[4]["error"] and not rows[0]["error"]
    assert "3 of 5 pictures read; first that failed" in capsys.readouterr().out
    for name, image in zip("abc", images, strict=True):
        found = np.asarray(Image.open(restored / f"{name}_restored.png"))
        assert found.shape == (SIZE, SIZE, 3) and (found == image).all()
    assert len(list(restored.iterdir())) == 3


def test_classify_files_bad_file_does_not_affect_others(server, folder):
    path, images = folder
    from tf_mtl_privacy.serving.client import connect

    contents = [file.read_bytes() for file in sorted(path.iterdir())]
    with connect(server.url, "toy") as client:
        found = classify_files(client, [contents[4], *contents[:3] * 15])
    assert found[0][1] and all(error is None for _, error in found[1:])
    assert len(found) == 46
    again = [probabilities["gender"]["male"] for probabilities, _ in found[1:]]
    np.testing.assert_allclose(again, np.tile(expected(images)["gender"][:, 1], 15), atol=1e-6)


def test_predict_server_command_needs_no_run_and_no_tensorflow(server, folder, tmp_path, python):
    flags = (f"--server={server.url}", "--model_name=toy", folder[0] / "a.png")
    done = python("-X", "importtime", "-m", "tf_mtl_privacy.predict", *flags)
    assert done.returncode == 0 and "tensorflow" not in done.stderr, done.stderr[-500:]
    assert "1 of 1 pictures read" in done.stdout
    assert (tmp_path / "predictions.csv").stat().st_mode & 0o077 == 0


def test_predict_server_failures_are_one_line(server, folder, python):
    path = folder[0] / "a.png"
    wrong = python("-m", "tf_mtl_privacy.predict", "--server=nowhere", path)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: --server=nowhere: expected")
    other = python(
        "-m", "tf_mtl_privacy.predict", f"--server={server.url}", "--model_name=other", path
    )
    assert other.returncode == 2 and "--model_name=other" in other.stderr
    gone = python(
        "-m", "tf_mtl_privacy.predict", "--server=http://127.0.0.1:9", "--deadline=0.5", path
    )
    assert gone.returncode == 1 and "http://127.0.0.1:9 model faces" in gone.stderr
    for failed in (wrong, other, gone):
        assert failed.stderr.count("\n") == 1
