"""Writes tiny data sets to disk, each in its official layout."""

import csv
from pathlib import Path

import numpy as np

from tests.fakes.pictures import encoded, picture

_CELEBA = """
5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose
Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee
Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard
Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair
Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young
"""
CELEBA_ATTRIBUTES = _CELEBA.split()
_POINTS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
LANDMARK_NAMES = [f"{point}_{axis}" for point in _POINTS for axis in "xy"]


def write_celeba(root: Path, count: int = 20, people: int = 4, official: bool = False) -> dict:
    """Writes a CelebA folder; `official` uses the subfolders Img, Anno and Eval.

    Returns:
        The ground truth: `names`, `attributes` [N, 40] 0 or 1, `partition`, `identity`,
        `landmarks`, `images` (their folder) and `tables` (name -> path).
    """
    generator = np.random.default_rng(7)
    names = [f"{k + 1:06d}.jpg" for k in range(count)]
    truth = {
        "names": names,
        "attributes": generator.integers(0, 2, (count, 40)),
        "partition": np.repeat([0, 1, 2], [count - 2 * (count // 5), count // 5, count // 5]),
        "identity": np.arange(count) % people + 1,
        "landmarks": generator.integers(60, 120, (count, 10)),
        "images": root / ("Img/img_align_celeba" if official else "img_align_celeba"),
    }
    anno, evaluation = (root / "Anno", root / "Eval") if official else (root, root)
    for folder in (truth["images"], anno, evaluation):
        folder.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate(names):
        (truth["images"] / name).write_bytes(encoded(picture(k), "JPEG", quality=92))

    def lines(values):
        return [
            f"{name} " + " ".join(f"{v:2d}" for v in np.atleast_1d(row))
            for name, row in zip(names, values, strict=True)
        ]

    contents = {
        anno / "list_attr_celeba.txt": [
            str(count),
            " ".join(CELEBA_ATTRIBUTES) + " ",
            *lines(truth["attributes"] * 2 - 1),
        ],
        anno / "identity_CelebA.txt": lines(truth["identity"]),
        anno / "list_landmarks_align_celeba.txt": [
            str(count),
            " ".join(LANDMARK_NAMES),
            *lines(truth["landmarks"]),
        ],
        evaluation / "list_eval_partition.txt": lines(truth["partition"]),
    }
    for path, content in contents.items():
        path.write_text("\n".join(content) + "\n")
    truth["tables"] = {path.name: path for path in contents}
    return truth


# The 73 attributes in the header of lfw_attributes.txt, which separates them by tabs.
_LFW = """
Male, Asian, White, Black, Baby, Child, Youth, Middle Aged, Senior, Black Hair, Blond Hair,
Brown Hair, Bald, No Eyewear, Eyeglasses, Sunglasses, Mustache, Smiling, Frowning, Chubby, Blurry,
Harsh Lighting, Flash, Soft Lighting, Outdoor, Curly Hair, Wavy Hair, Straight Hair,
Receding Hairline, Bangs, Sideburns, Fully Visible Forehead, Partially Visible Forehead,
Obstructed Forehead, Bushy Eyebrows, Arched Eyebrows, Narrow Eyes, Eyes Open, Big Nose, Pointy Nose,
Big Lips, Mouth Closed, Mouth Slightly Open, Mouth Wide Open, Teeth Not Visible, No Beard, Goatee,
Round Jaw, Double Chin, Wearing Hat, Oval Face, Square Face, Round Face, Color Photo, Posed Photo,
Attractive Man, Attractive Woman, Indian, Gray Hair, Bags Under Eyes, Heavy Makeup, Rosy Cheeks,
Shiny Skin, Pale Skin, 5 o' Clock Shadow, Strong Nose-Mouth Lines, Wearing Lipstick, Flushed Face,
High Cheekbones, Brown Eyes, Wearing Earrings, Wearing Necktie, Wearing Necklace
"""
LFW_ATTRIBUTES = [name.strip() for name in _LFW.replace("\n", " ").split(",")]
# Scores that tests check; the others are random.
LFW_SCORES = {
    "Male": (1.56834639173, -0.3, 2.0, 0.1),
    "Child": (-1.0, 0.9, -2.0, -1.0),
    "Youth": (0.5, -0.9, -2.0, -0.9),
    "Middle Aged": (0.1, -1.0, 0.4, -0.8),
    "Senior": (-2.0, -2.0, 0.3, -0.7),
    "Smiling": (0.01, -0.01, 3.0, -3.0),
    "Bags Under Eyes": (1.0, -1.0, 1.0, -1.0),
}
LFW_ROWS = (("Ann Lee", 1), ("Ann Lee", 2), ("Bo Diaz", 1), ("Cy Young Jr", 1))


def write_lfw(root: Path, folder: str = "lfw") -> Path:
    """Writes an LFW folder of four images of three people; returns the attribute file."""
    for k, (person, number) in enumerate(LFW_ROWS):
        name = person.replace(" ", "_")
        path = root / folder / name / f"{name}_{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(k, 250, 250), "JPEG", quality=92))
    generator = np.random.default_rng(11)
    scores = {name: generator.normal(size=len(LFW_ROWS)) for name in LFW_ATTRIBUTES} | LFW_SCORES
    lines = [
        "# PubFig Attribute Scores v1.2",
        "#\t" + "\t".join(["person", "imagenum", *LFW_ATTRIBUTES]),
        *(
            "\t".join([person, str(number), *(f"{scores[a][k]:.12g}" for a in LFW_ATTRIBUTES)])
            for k, (person, number) in enumerate(LFW_ROWS)
        ),
    ]
    table = root / "lfw_attributes.txt"
    table.write_text("\n".join(lines) + "\n")
    return table


def write_csv(root: Path, rows: list[dict[str, str]], side: int = 40) -> Path:
    """Writes a folder of PNG files with labels.csv; returns the table's path."""
    root.mkdir(parents=True, exist_ok=True)
    for k, row in enumerate(rows):
        path = root / row["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(k, side, side), "PNG"))
    table = root / "labels.csv"
    with open(table, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table
