"""Scores of marked regions, by hand and on a run with known regions."""

import dataclasses
import io
import json
import types

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import jaccard_score

from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.evaluation import regions as figures
from tf_mtl_privacy.evaluation.regions import (
    EYE_RADIUS,
    SHARES,
    best_share,
    eye_discs,
    image_scores,
    marked_regions,
    mean_scores,
    region_scores,
    top_share,
    true_regions,
)
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.removal.mask import region_finder, switch_mask
from tf_mtl_privacy.reporting.pictures import write_pictures
from tf_mtl_privacy.training.region_maps import region_maps

RNG = np.random.default_rng(0)
# A 2x2 picture whose left column is sensitive.
TRUE = np.array([[[True, False], [True, False]]])


def scores(values, marked=None):
    maps = np.array([values], np.float32)
    return {name: float(found[0]) for name, found in image_scores(maps, TRUE, marked).items()}


def test_image_scores_equal_hand_calculation():
    assert scores([[4, 1], [2, 3]]) == {"pointing": 1.0, "energy": 0.6}
    assert scores([[1, 4], [2, 3]]) == {"pointing": 0.0, "energy": pytest.approx(0.3)}


def test_image_scores_pointing_of_several_maxima_is_a_share():
    assert scores([[5, 5], [5, 0]])["pointing"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-6])
def test_image_scores_of_a_constant_map_are_the_region_s_area(value):
    true = RNG.random((4, 8, 8)) < 0.3
    found = region_scores(np.full(true.shape, value), true, np.ones_like(true))
    area = true.mean()
    expected = {"pointing": area, "energy": area, "iou": area, "area": 1, "covered": 1}
    assert found == pytest.approx(expected | {"covered_p1": 1})


def test_image_scores_of_marked_pixels_equal_hand_calculation():
    one = scores([[0, 0], [0, 1]], np.array([[[True, True], [False, False]]]))
    assert (one["iou"], one["area"], one["covered"]) == (pytest.approx(1 / 3), 0.5, 0.5)
    whole = scores([[0, 0], [0, 1]], TRUE)
    assert (whole["iou"], whole["area"], whole["covered"]) == (1.0, 0.5, 1.0)
    nothing = scores([[0, 0], [0, 1]], np.zeros_like(TRUE))
    assert (nothing["iou"], nothing["area"], nothing["covered"]) == (0.0, 0.0, 0.0)


def test_region_scores_iou_is_the_mean_jaccard_index():
    true, marked = RNG.random((6, 9, 9)) < 0.4, RNG.random((6, 9, 9)) < 0.5
    found = image_scores(RNG.random((6, 9, 9)), true, marked)
    expected = [jaccard_score(a.ravel(), b.ravel()) for a, b in zip(true, marked, strict=True)]
    np.testing.assert_allclose(found["iou"], expected)
    np.testing.assert_allclose(found["area"], marked.reshape(6, -1).mean(1))


def test_region_scores_are_means_and_the_first_percentile():
    """200 pictures, of which the first has half of its region covered: 1 % lie below."""
    true = np.ones((200, 2, 2), bool)
    marked, maps = true.copy(), RNG.random(true.shape)
    marked[0, 0] = marked[1, 0, 0] = marked[2, 0, 0] = False
    found = region_scores(maps, true, marked)
    assert found["covered"] == pytest.approx((197 + 0.5 + 0.75 + 0.75) / 200)
    # Place 1.99 of the ascending 0.5, 0.75, 0.75, 1, ...
    assert found["covered_p1"] == pytest.approx(0.75)
    parts = [image_scores(maps[k : k + 60], true[k : k + 60], marked[k : k + 60]) for k in (0, 60)]
    parts.append(image_scores(maps[120:], true[120:], marked[120:]))
    assert mean_scores(parts) == pytest.approx(found)
    assert set(region_scores(maps, true)) == {"pointing", "energy"}


def test_image_scores_with_an_empty_region_or_other_shapes_are_refused():
    maps = RNG.random((2, 4, 4))
    true = np.ones((2, 4, 4), bool)
    for wrong in (true & (np.arange(2) > 0)[:, np.newaxis, np.newaxis], true[:1], true[:, :3]):
        with pytest.raises(ValueError, match="expected one shape and no empty region"):
            image_scores(maps, wrong)
    with pytest.raises(ValueError, match="expected one shape"):
        image_scores(maps, true, true[:, :2])


def test_top_share_marks_the_highest_pixels():
    maps = RNG.permutation(3 * 100).reshape(3, 10, 10).astype(np.float32)
    for share, count in ((0.005, 1), (0.03, 3), (0.5, 50), (1.0, 100)):
        marked = top_share(maps, share)
        assert marked.sum((1, 2)).tolist() == [count] * 3
        for number in range(3):
            chosen = maps[number][marked[number]]
            rest = maps[number][~marked[number]]
            assert not len(rest) or chosen.min() > rest.max()
    # As high as the last of them: marked too.
    assert top_share(np.array([[[2.0, 1.0], [1.0, 0.0]]]), 0.5).sum() == 3


def test_best_share_has_the_highest_iou():
    """A map that is highest in the true region is best cut at the region's area."""
    true = np.zeros((5, 20, 20), bool)
    true[:, 4:10, 3:11] = True  # 48 of 400 pixels: 12 %
    maps = true + 0.5 * RNG.random(true.shape)
    assert best_share(maps, true) == 0.12 in SHARES
    assert image_scores(maps, true, top_share(maps, 0.12))["iou"].tolist() == [1.0] * 5
    ious = [image_scores(maps, true, top_share(maps, s))["iou"].mean() for s in SHARES]
    assert max(ious) == 1.0 and sorted(ious)[-2] < 0.8


def test_eye_discs_surround_the_eyes():
    """Eyes 20 pixels apart: radius 5; a disc of that radius has about 25 pi pixels."""
    landmarks = np.zeros((2, 10), np.float32)
    landmarks[0, :4] = [20, 30, 40, 30]
    landmarks[1, :4] = [20, 30, 32, 46]
    found = eye_discs(landmarks, 64)
    assert EYE_RADIUS == 0.25 and found.shape == (2, 64, 64)
    assert found[0].sum() == pytest.approx(2 * np.pi * 25, rel=0.05)
    # Rows are y, columns are x.
    assert found[0, 30, 25] and not found[0, 30, 26] and found[0, 35, 20] and not found[0, 36, 20]
    assert found[0, 30, 40] and not found[0, 40, 30]
    assert found[1, 46, 32] and found[1, 30, 20] and found[1].sum() == found[0].sum()
    for number, (y, x) in ((0, (30, 30)), (1, (38, 26))):
        centre = np.argwhere(found[number]).mean(0)
        np.testing.assert_allclose(centre, (y, x), atol=1e-9)


def test_eye_discs_outside_of_the_picture_are_empty():
    landmarks = np.zeros((2, 10), np.float32)
    landmarks[0, :4] = [-50, -50, -40, -50]
    landmarks[1, :4] = [-8, 10, 12, 10]
    found = eye_discs(landmarks, 32)
    assert not found[0].any()
    assert np.argwhere(found[1])[:, 1].min() == 7, "only the right one, from 12 - 5 on"


def test_true_regions_by_data_set_and_label():
    def read(rows):
        return np.ones((len(rows), 8, 8), bool)

    landmarks = np.array([[2, 2 + k % 3, 6, 2] for k in range(5)], np.float32)
    assert true_regions("iris", "synthetic_faces", read, None, 8) == (
        "regions of the data set",
        read,
    )
    assert "irises, not those of identity" in true_regions(
        "identity", "synthetic_faces", read, None, 8
    )
    name, regions = true_regions("attributes:Eyeglasses", "celeba", None, landmarks, 8)
    assert name == "discs around the eyes"
    assert true_regions("attributes:Narrow_Eyes,Bags_Under_Eyes", "celeba", None, landmarks, 8)[
        0
    ] == ("discs around the eyes")
    np.testing.assert_array_equal(regions(np.array([3, 1])), eye_discs(landmarks[:2], 8))
    assert true_regions("identity", "lfw", None, None, 8).startswith("lfw does not say where")


@pytest.mark.parametrize("label", ["attributes:Male", "attributes:Eyeglasses,Smiling", "identity"])
def test_true_regions_of_a_label_away_from_the_eyes_are_unknown(label):
    landmarks = np.array([[2, 2 + k, 6, 2] for k in range(3)], np.float32)
    found = true_regions(label, "celeba", None, landmarks, 8)
    assert isinstance(found, str) and "nothing says where" in found
    assert label.removeprefix("attributes:").split(",")[-1] in found and "Eyeglasses" not in found


def test_true_regions_with_constant_landmarks_are_unknown():
    # They move by a tenth of a pixel: the discs are the same.
    still = np.array([[2 + k / 50, 2, 6, 2] for k in range(5)], np.float32)
    found = true_regions("attributes:Narrow_Eyes", "celeba", None, still, 8)
    assert isinstance(found, str) and "the same in every picture" in found
    # A single picture says nothing of others.
    assert true_regions("attributes:Narrow_Eyes", "celeba", None, still[:1], 8)[0] == (
        "discs around the eyes"
    )


ROWS = 60


def faces(*, known=True, empty=(), landmarks=False, validation=20):
    """32x32 noise; the true region is a square that wanders by up to four pixels."""
    true = np.zeros((ROWS, 32, 32), bool)
    for number, (y, x) in enumerate(np.random.default_rng(1).integers(8, 13, (ROWS, 2))):
        true[number, y : y + 8, x : x + 8] = number not in empty
    images = RNG.integers(0, 256, (ROWS, 32, 32, 3)).astype(np.uint8)
    split = np.repeat([1, 2], [validation, ROWS - validation])
    dataset = Dataset.from_arrays(
        images,
        {"gender": np.arange(ROWS) % 2},
        np.arange(ROWS) % 3,
        split=split,
        regions=true if known else None,
    )
    if landmarks:
        points = np.tile(np.array([10, 12, 22, 12, *[0] * 6], np.float32), (ROWS, 1))
        points[:, :4:2] += np.arange(ROWS, dtype=np.float32)[:, np.newaxis] % 4
        dataset = dataclasses.replace(dataset, landmarks=points)
    return dataset, true


def run_of(dataset, *, mask=False, **changes):
    config = tiny_config()
    if mask:
        removal = RemovalConfig(mask="learned", mask_width=4)
        config = dataclasses.replace(config, removal=removal)
    bundle = build_bundle(config, {"gender": 2}, 3)
    if mask:
        last = [layer for layer in region_finder(bundle.encoder).layers if layer.weights][-1]
        last.kernel.assign(np.random.default_rng(1).normal(0, 1, last.kernel.shape))
        last.bias.assign(np.zeros(last.bias.shape))
        switch_mask(bundle.encoder, on=True)
    whole = {
        "bundle": bundle,
        "single_task": {},
        "private_classes": dataset.private_classes,
        "config": config,
    }
    return types.SimpleNamespace(**(whole | changes))


def part(run, faces_, rows=None, **data):
    used = dataclasses.replace(run.config.data, **data)
    found = marked_regions(run, faces_, used, faces_.rows["test"] if rows is None else rows)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    return found


def approximately(found, expected):
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_marked_regions_of_a_mask_are_its_covered_pixels():
    dataset, true = faces()
    run = run_of(dataset, mask=True)
    found = part(run, dataset)
    heat, covered = region_maps(run.bundle)(dataset.store.images(dataset.rows["test"]))
    approximately(found, figures.region_scores(heat, true[20:], covered))
    assert (found["source"], found["truth"], found["n"]) == ("mask", "regions of the data set", 40)
    assert found["true_area"] == pytest.approx(64 / 1024)
    assert found["share"] is None and "reason" not in found


def test_marked_regions_without_a_mask_chooses_the_share_on_validation_rows():
    dataset, true = faces()
    run = run_of(dataset)
    found = part(run, dataset)
    maps = region_maps(run.bundle)
    heat = maps(dataset.store.images(np.arange(ROWS))).heat
    share = figures.best_share(heat[:20], true[:20])
    expected = figures.region_scores(heat[20:], true[20:], figures.top_share(heat[20:], share))
    names = ("iou", "pointing", "energy", "area")
    approximately(found, {name: expected[name] for name in names} | {"share": share})
    assert found["covered"] is None and found["covered_p1"] is None
    assert found["reason"] == "nothing is covered: the run has no mask"


def test_marked_regions_fixed_guess_comes_from_validation_rows():
    dataset, true = faces()
    prior = np.broadcast_to(true[:20].mean(0, dtype=np.float32), (ROWS, 32, 32))
    share = figures.best_share(prior[:20], true[:20])
    expected = figures.region_scores(prior[20:], true[20:], figures.top_share(prior[20:], share))
    found = part(run_of(dataset), dataset)["fixed"]
    assert set(found) == {"iou", "pointing", "energy", "area"}
    approximately(found, {name: expected[name] for name in found})
    assert found["iou"] > 0.4, "squares that hardly move are guessed without looking"


def test_marked_regions_leaves_out_pictures_without_a_region():
    empty = (0, 5, 25, 40, 59)
    dataset, true = faces(empty=empty)
    run = run_of(dataset, mask=True)
    found = part(run, dataset)
    rows = np.array([row for row in range(20, 60) if row not in empty])
    heat, covered = region_maps(run.bundle)(dataset.store.images(rows))
    assert found["n"] == 37
    approximately(found, figures.region_scores(heat, true[rows], covered))
    nothing = part(run, dataset, rows=np.array([25, 40]))
    assert nothing["reason"] == "no evaluated picture shows a sensitive region"
    assert nothing["source"] == "mask" and nothing["n"] == 0 and nothing["iou"] is None


def test_marked_regions_without_validation_rows_has_no_share():
    dataset, _ = faces(validation=0)
    found = part(run_of(dataset), dataset)
    assert found["iou"] is None and found["area"] is None and found["fixed"] is None
    assert "no validation rows" in found["reason"] and 0 <= found["energy"] <= 1
    masked = part(run_of(dataset, mask=True), dataset)
    assert masked["iou"] is not None and masked["fixed"] is None


def test_marked_regions_without_known_regions_has_a_reason():
    dataset, _ = faces(known=False)
    for mask, area in ((True, True), (False, False)):
        found = part(run_of(dataset, mask=mask), dataset)
        assert found["reason"] == "synthetic_faces does not say where the sensitive region is"
        assert (found["area"] is not None) == area
        assert found["source"] and found["truth"] is found["iou"] is None
    other = run_of(dataset, private_classes=("a", "b"))
    assert part(other, dataset)["reason"] == "the run was trained on another private label"
    known, _ = faces()
    people = part(run_of(known), known, private_label="identity")
    assert people["reason"] == "the known regions of these faces are irises, not those of identity"


def test_marked_regions_without_mask_and_discriminator_is_empty():
    dataset, _ = faces()
    whole = run_of(dataset)
    bare = run_of(dataset, bundle=dataclasses.replace(whole.bundle, discriminator=None))
    single = run_of(dataset, single_task={"gender": whole.bundle})
    for run in (bare, single):
        found = part(run, dataset)
        assert found["source"] is None and found["n"] == 0
        assert found["reason"] == "the model has neither a mask nor a discriminator"


def test_marked_regions_of_photographs_uses_discs_around_the_eyes():
    dataset, _ = faces(known=False, landmarks=True)
    run = run_of(dataset, mask=True)
    celeba = {"dataset": "celeba", "data_dir": "x"}
    found = part(run, dataset, **celeba, private_label="attributes:Narrow_Eyes")
    assert found["truth"] == "discs around the eyes" and found["n"] == 40
    discs = figures.eye_discs(dataset.landmarks[20:], 32)
    heat, covered = region_maps(run.bundle)(dataset.store.images(dataset.rows["test"]))
    approximately(found, figures.region_scores(heat, discs, covered))
    assert found["true_area"] == pytest.approx(discs.mean())
    # A nose is not there: the same mask is not scored by them.
    nose = part(run, dataset, **celeba, private_label="attributes:Big_Nose")
    assert nose["truth"] is None and nose["area"] == pytest.approx(found["area"])
    assert "nothing says where Big_Nose is read" in nose["reason"]


def test_marked_regions_of_many_rows_takes_evenly_spaced_ones(monkeypatch):
    monkeypatch.setattr("tf_mtl_privacy.evaluation.regions._MAX_ROWS", 15)
    dataset, true = faces()
    run = run_of(dataset, mask=True)
    rows = np.arange(20, 60, 3)
    heat, covered = region_maps(run.bundle)(dataset.store.images(rows))
    found = part(run, dataset)
    assert found["n"] == len(rows) == 14
    approximately(found, figures.region_scores(heat, true[rows], covered))


def pixels(path):
    return np.asarray(Image.open(io.BytesIO(path.read_bytes())))


@pytest.mark.parametrize(("mask", "lines"), [(True, 4), (False, 3)])
def test_write_pictures_draws_the_sheet_of_regions(tmp_path, mask, lines):
    """Eight faces of 192 pixels beside each other, a line of white between them."""
    dataset, true = faces()
    run = run_of(dataset, mask=mask)
    write_pictures(run, dataset, run.config.data, "test", tmp_path / "results_x.json")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "regions_x.png",
        "restored_x.png",
    ]
    sheet = pixels(tmp_path / "regions_x.png")
    assert sheet.shape == (2 + lines * 194, 2 + 8 * 194, 3)
    rows = [sheet[2 + 194 * k : 194 + 194 * k, 2:194] for k in range(lines)]
    image = dataset.store.images(np.array([20]))[0]
    np.testing.assert_array_equal(rows[0], image.repeat(6, 0).repeat(6, 1))
    # The outline starts right outside of the true region.
    y, x = (int(place.min()) for place in np.nonzero(true[20]))
    assert rows[1][6 * y - 1, 6 * x + 3].tolist() == [0, 0, 0]
    assert rows[1][6 * y - 2, 6 * x + 3].tolist() == [255, 255, 255]
    if mask:
        covered = region_maps(run.bundle)(image[np.newaxis]).covered[0]
        grey = (rows[2][3::6, 3::6] == 128).all(-1)
        assert (grey[covered]).all() and grey.mean() == pytest.approx(covered.mean(), abs=0.01)


def test_write_pictures_without_marked_regions_draws_no_sheet(tmp_path):
    dataset, _ = faces()
    whole = run_of(dataset)
    run = run_of(dataset, bundle=dataclasses.replace(whole.bundle, discriminator=None))
    write_pictures(run, dataset, run.config.data, "test", tmp_path / "results.json")
    assert [path.name for path in tmp_path.iterdir()] == ["restored.png"]
    assert (tmp_path / "restored.png").stat().st_mode & 0o077 == 0
