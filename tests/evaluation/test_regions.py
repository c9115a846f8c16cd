"""Figures of maps against true regions: worked by hand, and against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from tf_mtl_privacy.evaluation.regions import (
    EYE_RADIUS,
    SHARES,
    best_share,
    eye_discs,
    image_scores,
    mean_scores,
    region_scores,
    top_share,
    true_regions,
)

RNG = np.random.default_rng(0)
# A 2x2 picture whose left column is sensitive.
TRUE = np.array([[[True, False], [True, False]]])


def scores(values, marked=None):
    maps = np.array([values], np.float32)
    return {name: float(found[0]) for name, found in image_scores(maps, TRUE, marked).items()}


def test_a_map_by_hand():
    assert scores([[4, 1], [2, 3]]) == {"pointing": 1.0, "energy": 0.6}
    assert scores([[1, 4], [2, 3]]) == {"pointing": 0.0, "energy": pytest.approx(0.3)}


def test_of_several_maxima_the_share_inside_counts():
    assert scores([[5, 5], [5, 0]])["pointing"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("value", [0.0, 1.0, 1e-6])
def test_a_map_that_is_the_same_everywhere_scores_the_region_s_area(value):
    true = RNG.random((4, 8, 8)) < 0.3
    found = region_scores(np.full(true.shape, value), true, np.ones_like(true))
    area = true.mean()
    expected = {"pointing": area, "energy": area, "iou": area, "area": 1, "covered": 1}
    assert found == pytest.approx(expected | {"covered_p1": 1})


def test_what_is_marked_by_hand():
    one = scores([[0, 0], [0, 1]], np.array([[[True, True], [False, False]]]))
    assert (one["iou"], one["area"], one["covered"]) == (pytest.approx(1 / 3), 0.5, 0.5)
    whole = scores([[0, 0], [0, 1]], TRUE)
    assert (whole["iou"], whole["area"], whole["covered"]) == (1.0, 0.5, 1.0)
    nothing = scores([[0, 0], [0, 1]], np.zeros_like(TRUE))
    assert (nothing["iou"], nothing["area"], nothing["covered"]) == (0.0, 0.0, 0.0)


def test_iou_is_the_mean_jaccard_index():
    true, marked = RNG.random((6, 9, 9)) < 0.4, RNG.random((6, 9, 9)) < 0.5
    found = image_scores(RNG.random((6, 9, 9)), true, marked)
    expected = [jaccard_score(a.ravel(), b.ravel()) for a, b in zip(true, marked, strict=True)]
    np.testing.assert_allclose(found["iou"], expected)
    np.testing.assert_allclose(found["area"], marked.reshape(6, -1).mean(1))


def test_means_and_the_first_percentile():
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


def test_an_empty_region_and_other_shapes_are_refused():
    maps = RNG.random((2, 4, 4))
    true = np.ones((2, 4, 4), bool)
    for wrong in (true & (np.arange(2) > 0)[:, np.newaxis, np.newaxis], true[:1], true[:, :3]):
        with pytest.raises(ValueError, match="expected one shape and no empty region"):
            image_scores(maps, wrong)
    with pytest.raises(ValueError, match="expected one shape"):
        image_scores(maps, true, true[:, :2])


def test_the_highest_pixels_are_marked():
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


def test_the_share_is_the_one_with_the_highest_iou():
    """A map that is highest in the true region is best cut at the region's area."""
    true = np.zeros((5, 20, 20), bool)
    true[:, 4:10, 3:11] = True  # 48 of 400 pixels: 12 %
    maps = true + 0.5 * RNG.random(true.shape)
    assert best_share(maps, true) == 0.12 in SHARES
    assert image_scores(maps, true, top_share(maps, 0.12))["iou"].tolist() == [1.0] * 5
    ious = [image_scores(maps, true, top_share(maps, s))["iou"].mean() for s in SHARES]
    assert max(ious) == 1.0 and sorted(ious)[-2] < 0.8


def test_discs_around_the_eyes():
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


def test_eyes_outside_of_the_picture_have_no_disc():
    landmarks = np.zeros((2, 10), np.float32)
    landmarks[0, :4] = [-50, -50, -40, -50]
    landmarks[1, :4] = [-8, 10, 12, 10]
    found = eye_discs(landmarks, 32)
    assert not found[0].any()
    assert np.argwhere(found[1])[:, 1].min() == 7, "only the right one, from 12 - 5 on"


def test_what_is_known_of_the_true_region():
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
def test_true_regions_of_a_label_away_from_the_eyes_are_not_known(label):
    landmarks = np.array([[2, 2 + k, 6, 2] for k in range(3)], np.float32)
    found = true_regions(label, "celeba", None, landmarks, 8)
    assert isinstance(found, str) and "nothing says where" in found
    assert label.removeprefix("attributes:").split(",")[-1] in found and "Eyeglasses" not in found


def test_landmarks_that_never_move_are_no_truth():
    # They move by a tenth of a pixel: the discs are the same.
    still = np.array([[2 + k / 50, 2, 6, 2] for k in range(5)], np.float32)
    found = true_regions("attributes:Narrow_Eyes", "celeba", None, still, 8)
    assert isinstance(found, str) and "the same in every picture" in found
    # A single picture says nothing of others.
    assert true_regions("attributes:Narrow_Eyes", "celeba", None, still[:1], 8)[0] == (
        "discs around the eyes"
    )
