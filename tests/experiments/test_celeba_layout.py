"""experiments/celeba_layout: pixels of the iris, labels of the tables, refusals."""

import numpy as np
import pytest
from PIL import Image

from experiments.celeba_layout import __main__ as layout
from tf_mtl_privacy.data import synthetic_faces

ROWS = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("layout") / "new" / "faces"
    assert layout.main([f"--folder={folder}", f"--rows={ROWS}", "--seed=3"]) == 0
    return folder


@pytest.fixture(scope="module")
def faces():
    return synthetic_faces.render(
        3, "celeba_layout", np.arange(ROWS), size=layout.DRAWN_SIZE, shift="all"
    )


def table(path, header):
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [line.split() for line in lines[2 if header else 0 :]]
    return lines, [row[0] for row in rows], np.array([row[1:] for row in rows], int)


def test_recoloured_matches_values_worked_by_hand():
    images = np.array([[[[100, 150, 200], [10, 20, 30]]], [[[0, 0, 0], [255, 255, 255]]]], np.uint8)
    iris = np.array([[[True, False]], [[True, True]]])
    found = layout.recoloured(images, iris, np.array([1, 6]))
    # Brightness 150 / 255, so the colour of class 1 is scaled by 0.35 + 1.3 * 0.588 = 1.1147.
    hand = [
        0.3 * old + 0.7 * 255 * new * 1.1147 for old, new in ((100, 0.2), (150, 0.7), (200, 0.25))
    ]
    np.testing.assert_allclose(found[0, 0, 0], hand, atol=0.6)
    np.testing.assert_array_equal(found[0, 0, 1], images[0, 0, 1])
    np.testing.assert_allclose(
        found[1, 0, 0], np.array([0.45, 0.28, 0.12]) * 0.35 * 178.5, atol=0.6
    )
    # White is scaled by 1.65: 0.45 and 0.28 and 0.12 become 0.7425, 0.462 and 0.198.
    white = 0.3 * 255 + 178.5 * np.array([0.7425, 0.462, 0.198])
    np.testing.assert_allclose(found[1, 0, 1], white, atol=0.6)
    stronger = layout.recoloured(images, iris, np.array([0, 0]), strength=1.0)
    # A strong red saturates.
    assert tuple(stronger[1, 0, 1]) == (255, 84, 84)


def test_recoloured_changes_the_iris_only(faces):
    images = layout.recoloured(faces.image, faces.iris_mask, faces.iris)
    outside = ~faces.iris_mask
    np.testing.assert_array_equal(images[outside], faces.image[outside])
    changed = (images != faces.image).any(axis=-1)
    assert changed[faces.iris_mask].mean() > 0.99


def test_attributes_are_the_labels_of_the_faces(folder, faces):
    lines, names, values = table(folder / "list_attr_celeba.txt", header=True)
    assert int(lines[0]) == ROWS and names == [f"{k:06d}.jpg" for k in range(1, ROWS + 1)]
    columns = dict(zip(lines[1].split(), values.T, strict=True))
    assert set(np.unique(values)) == {-1, 1}
    code = sum(
        weight * (columns[name] == 1)
        for name, weight in (("Eyeglasses", 4), ("Narrow_Eyes", 2), ("Bags_Under_Eyes", 1))
    )
    np.testing.assert_array_equal(code, faces.iris)
    np.testing.assert_array_equal(columns["Male"] == 1, faces.gender == 1)
    np.testing.assert_array_equal(columns["Smiling"] == 1, faces.expression == 1)
    np.testing.assert_array_equal(columns["Young"] == 1, faces.age <= 1)


def test_pictures_show_the_colour_of_the_label(folder, faces):
    _, names, values = table(folder / "list_attr_celeba.txt", header=True)
    codes = (values[:, :3] == 1) @ np.array([4, 2, 1])
    for row, name in enumerate(names):
        with Image.open(folder / "img_align_celeba" / name) as opened:
            assert opened.size == (178, 218) and opened.format == "JPEG"
            square = np.asarray(opened.crop((0, 20, 178, 198)), float)
        right = layout.recoloured(
            faces.image[row : row + 1], faces.iris_mask[row : row + 1], codes[row : row + 1]
        )[0]
        whole = np.asarray(Image.fromarray(right).resize((178, 178), Image.Resampling.BICUBIC))
        # JPEG halves the resolution of colours, so single pixels of the iris may be off.
        large = np.asarray(Image.fromarray(faces.iris_mask[row]).resize((178, 178))) > 0
        assert np.abs(square - whole).mean() < 4
        # The region is one of the label's colour: every other class is farther away.
        distances = []
        for label in range(8):
            other = layout.recoloured(
                faces.image[row : row + 1], faces.iris_mask[row : row + 1], np.array([label])
            )[0]
            other = np.asarray(Image.fromarray(other).resize((178, 178), Image.Resampling.BICUBIC))
            distances.append(np.abs(square[large] - other[large]).mean())
        assert np.argmin(distances) == faces.iris[row]


def test_partition_has_a_tenth_each_for_validation_and_test(folder):
    _, names, values = table(folder / "list_eval_partition.txt", header=False)
    assert len(names) == ROWS
    assert [int((values == part).sum()) for part in (0, 1, 2)] == [20, 2, 2]
    assert sorted(p.name for p in folder.iterdir()) == [
        "img_align_celeba",
        "list_attr_celeba.txt",
        "list_eval_partition.txt",
    ]


def test_main_with_an_existing_folder_is_refused(tmp_path, capsys):
    (tmp_path / "kept.txt").write_text("mine")
    assert layout.main([f"--folder={tmp_path}", "--rows=10"]) == 2
    error = capsys.readouterr().err
    assert error == f"error: --folder={tmp_path}: the folder exists; give the name of a new one\n"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_main_with_too_few_rows_is_refused(tmp_path, capsys):
    assert layout.main([f"--folder={tmp_path}/new", "--rows=9"]) == 2
    assert capsys.readouterr().err == "error: --rows=9: expected at least 10\n"


def test_main_interrupted_leaves_nothing(tmp_path, monkeypatch):
    def interrupted(image):
        raise KeyboardInterrupt

    monkeypatch.setattr(layout, "_jpeg", interrupted)
    with pytest.raises(KeyboardInterrupt):
        layout.main([f"--folder={tmp_path}/new", "--rows=10"])
    assert list(tmp_path.iterdir()) == []
