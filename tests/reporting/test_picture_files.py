"""Image files of a request, and the names of restored images."""

from pathlib import Path, PurePosixPath

import pytest

from tf_mtl_privacy.errors import UsageError
from tf_mtl_privacy.reporting.predictions import PictureFile, find_pictures, restored_names


def test_find_pictures_empty_input_is_refused():
    with pytest.raises(UsageError, match="--input=: expected an image file or a folder"):
        find_pictures([""])


def test_links_in_a_circle_are_followed_once(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.png").write_bytes(b"")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "b.png").symlink_to(tmp_path / "b.png")
    assert [str(f.relative) for f in find_pictures([str(tmp_path)])] == ["sub/a.png"]
    with pytest.raises(UsageError, match="self: no such file or folder"):
        find_pictures([str(tmp_path / "self")])


def test_folders_are_read_recursively_in_order_and_files_as_given(tmp_path):
    names = ("b.JPG", "a/z.png", "a/notes.txt", ".hidden/x.png", ".x.png", "odd.data")
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = find_pictures([str(tmp_path / "odd.data"), str(tmp_path)])
    assert [str(file.relative) for file in found] == ["odd.data", "a/z.png", "b.JPG"]


def test_missing_and_empty_inputs_are_named(tmp_path):
    with pytest.raises(UsageError, match="nowhere: no such file or folder"):
        find_pictures([str(tmp_path / "nowhere")])
    with pytest.raises(UsageError, match="no pictures there"):
        find_pictures([str(tmp_path)])


def test_restored_names_differ_and_never_equal_an_original():
    relative = ["a.png", "a.jpg", "b/a.png", "c.bmp", "c.bmp", "a_png.jpg"]
    names = restored_names([PictureFile(Path(name), PurePosixPath(name)) for name in relative])
    assert names == [
        "a_png_restored.png",
        "a_jpg_restored.png",
        "b/a_restored.png",
        "c_bmp_restored.png",
        "c_bmp_2_restored.png",
        "a_png_2_restored.png",
    ]
