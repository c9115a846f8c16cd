"""The `regions` part of a result: which map, which truth, which rows, what is chosen where."""

import dataclasses
import io
import json
import types

import numpy as np
import pytest
from PIL import Image

from tests.training.tiny import tiny_config
from tf_mtl_privacy.config import RemovalConfig
from tf_mtl_privacy.data.dataset import Dataset
from tf_mtl_privacy.evaluation import regions as figures
from tf_mtl_privacy.evaluation.regions import marked_regions
from tf_mtl_privacy.models.bundle import build_bundle
from tf_mtl_privacy.removal.mask import region_finder, switch_mask
from tf_mtl_privacy.reporting.run_pictures import write_pictures
from tf_mtl_privacy.training.region_maps import region_maps

RNG = np.random.default_rng(0)
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


def test_a_mask_is_scored_as_it_covers():
    dataset, true = faces()
    run = run_of(dataset, mask=True)
    found = part(run, dataset)
    heat, covered = region_maps(run.bundle)(dataset.store.images(dataset.rows["test"]))
    approximately(found, figures.region_scores(heat, true[20:], covered))
    assert (found["source"], found["truth"], found["n"]) == ("mask", "regions of the data set", 40)
    assert found["true_area"] == pytest.approx(64 / 1024)
    assert found["share"] is None and "reason" not in found


def test_a_discriminator_s_area_is_chosen_on_validation_rows():
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


def test_one_guess_for_every_picture_comes_from_validation_rows():
    dataset, true = faces()
    prior = np.broadcast_to(true[:20].mean(0, dtype=np.float32), (ROWS, 32, 32))
    share = figures.best_share(prior[:20], true[:20])
    expected = figures.region_scores(prior[20:], true[20:], figures.top_share(prior[20:], share))
    found = part(run_of(dataset), dataset)["fixed"]
    assert set(found) == {"iou", "pointing", "energy", "area"}
    approximately(found, {name: expected[name] for name in found})
    assert found["iou"] > 0.4, "squares that hardly move are guessed without looking"


def test_pictures_without_a_region_are_left_out():
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


def test_without_validation_rows_no_area_is_chosen():
    dataset, _ = faces(validation=0)
    found = part(run_of(dataset), dataset)
    assert found["iou"] is None and found["area"] is None and found["fixed"] is None
    assert "no validation rows" in found["reason"] and 0 <= found["energy"] <= 1
    masked = part(run_of(dataset, mask=True), dataset)
    assert masked["iou"] is not None and masked["fixed"] is None


def test_what_is_not_known_has_a_reason():
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


def test_a_model_without_mask_and_discriminator_marks_nothing():
    dataset, _ = faces()
    whole = run_of(dataset)
    bare = run_of(dataset, bundle=dataclasses.replace(whole.bundle, discriminator=None))
    single = run_of(dataset, single_task={"gender": whole.bundle})
    for run in (bare, single):
        found = part(run, dataset)
        assert found["source"] is None and found["n"] == 0
        assert found["reason"] == "the model has neither a mask nor a discriminator"


def test_eyes_of_photographs_are_found_by_their_landmarks():
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


def test_of_many_rows_evenly_spaced_ones_are_taken(monkeypatch):
    monkeypatch.setattr("tf_mtl_privacy.evaluation.regions._MOST_ROWS", 15)
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
def test_the_sheet_of_regions(tmp_path, mask, lines):
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


def test_no_sheet_of_regions_where_nothing_is_marked(tmp_path):
    dataset, _ = faces()
    whole = run_of(dataset)
    run = run_of(dataset, bundle=dataclasses.replace(whole.bundle, discriminator=None))
    write_pictures(run, dataset, run.config.data, "test", tmp_path / "results.json")
    assert [path.name for path in tmp_path.iterdir()] == ["restored.png"]
    assert (tmp_path / "restored.png").stat().st_mode & 0o077 == 0
