"""Converts a CelebA folder of `write_celeba` to layouts that users have."""

import csv
import zipfile
from pathlib import Path

from tests.fakes.pictures import encoded, picture

BOM = b"\xef\xbb\xbf"


def with_bom(truth: dict) -> None:
    """Saves the tables as a Windows editor does, with a byte order mark and CRLF."""
    for path in truth["tables"].values():
        path.write_bytes(BOM + path.read_bytes().replace(b"\n", b"\r\n"))


def quoted(truth: dict) -> None:
    """Quotes the names and values of all tables, except the headers."""
    for path in truth["tables"].values():
        lines = path.read_text().splitlines()
        first = 2 if lines[0].strip().isdigit() else 0
        cells = [" ".join(f'"{text}"' for text in line.split()) for line in lines[first:]]
        path.write_text("\n".join([*lines[:first], *cells]) + "\n")


def as_png(truth: dict, folder: str = "img_align_celeba_png") -> Path:
    """Converts the pictures to PNG, in the named folder; the tables still contain `.jpg`."""
    new = truth["images"].with_name(folder)
    new.mkdir(exist_ok=True)
    for k, name in enumerate(truth["names"]):
        (truth["images"] / name).unlink()
        (new / name.replace(".jpg", ".png")).write_bytes(encoded(picture(k), "PNG"))
    if new != truth["images"]:
        truth["images"].rmdir()
    return new


def as_kaggle(truth: dict) -> None:
    """Converts to Kaggle's layout: CSV tables, no identities, pictures in a nested folder."""
    for name, path in truth["tables"].items():
        rows = [line.split() for line in path.read_text().splitlines()]
        path.unlink()
        if name == "identity_CelebA.txt":
            continue
        names = ["partition"]
        if len(rows[0]) == 1:
            names, rows = rows[1], rows[2:]
        with open(path.with_suffix(".csv"), "w", newline="") as file:
            csv.writer(file).writerows([["image_id", *names], *rows])
    outer = truth["images"]
    inner = outer / outer.name
    inner.mkdir()
    for name in truth["names"]:
        (outer / name).rename(inner / name)


def as_zip(truth: dict, name: str = "img_align_celeba.zip") -> Path:
    """Moves the pictures to a zip archive."""
    path = truth["images"].with_name(name)
    with zipfile.ZipFile(path, "w") as archive:
        for picture_name in truth["names"]:
            archive.write(truth["images"] / picture_name, f"img_align_celeba/{picture_name}")
            (truth["images"] / picture_name).unlink()
    truth["images"].rmdir()
    return path
