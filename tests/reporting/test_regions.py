"""Sentences on sensitive regions."""

from tests.reporting.regions import marked_by_discriminator, no_regions, whole_regions
from tf_mtl_privacy.reporting.sections.summary import results_text
from tf_mtl_privacy.reporting.sections.utility import region_sentences


def test_region_sentences_of_a_scored_mask():
    assert region_sentences(whole_regions()) == [
        "7.1 % of an image is covered by the mask; true regions (regions of the data set): 3.6 %.",
        "93.3 % of the true region is covered (at least 66.2 % in 99 % of images).",
        "IoU 47.6 %, pointing game 97.3 %, energy inside 42.6 %; 2,000 images.",
        "A fixed template, the same for every face: IoU 50.1 %, pointing game 90.0 %, energy "
        "inside 51.9 %.",
        "The mask against the template: better in pointing game; WORSE in IoU, energy inside (with "
        "its margin, the mask covers 2.0 times the true region).",
    ]


def test_region_sentences_name_better_and_worse_figures():
    regions = whole_regions() | {"iou": 0.6, "energy": 0.6}
    assert region_sentences(regions)[-1] == (
        "The mask against the template: better in IoU, pointing game, energy inside."
    )
    regions["fixed"] = {name: regions[name] for name in ("iou", "pointing", "energy", "area")}
    assert region_sentences(regions)[-1].endswith("template: equal in all three.")
    # A mask that covers too little has no margin to blame.
    regions = whole_regions() | {"area": 0.02}
    assert region_sentences(regions)[-1].endswith("WORSE in IoU, energy inside.")


def test_region_sentences_on_a_reference_rank_nothing():
    lines = region_sentences(whole_regions() | {"truth": "discs around the eyes"})
    assert lines[0].endswith("reference regions, not ground truth (discs around the eyes): 3.6 %.")
    assert lines[1].startswith("93.3 % of the reference region is covered")
    assert lines[-1].endswith("they are not ranked, because the label may be visible elsewhere.")
    assert not any("WORSE" in line or "better in" in line for line in lines)


def test_region_sentences_on_identical_regions_rank_nothing():
    fixed = {"iou": 1.0, "pointing": 1.0, "energy": 1.0, "area": 0.04}
    lines = region_sentences(whole_regions() | {"fixed": fixed})
    assert lines[-1].endswith("so no map can beat it.") and "WORSE" not in str(lines)


def test_region_sentences_of_a_discriminator_cover_nothing():
    lines = region_sentences(marked_by_discriminator())
    assert lines[0].startswith("3.0 % of an image is marked by the discriminator;")
    assert len(lines) == 4 and not any("cover" in line for line in lines)
    assert lines[-1] == (
        "The discriminator's map against the template: better in pointing game; WORSE in IoU, "
        "energy inside."
    )


def test_region_sentences_give_the_reason_for_missing_figures():
    assert region_sentences(no_regions()) == [
        "Not available: the model has neither a mask nor a discriminator."
    ]
    unknown = no_regions("lfw does not say where", source="mask", area=0.05)
    assert region_sentences(unknown) == [
        "5.0 % of an image is covered by the mask.",
        "Not scored: lfw does not say where.",
    ]
    bare = no_regions("lfw does not say where", source="discriminator")
    assert region_sentences(bare) == ["Not scored: lfw does not say where."]


def test_region_sentences_without_template():
    assert len(region_sentences(whole_regions() | {"fixed": None})) == 3


def test_results_text_has_the_region_sentences(results, bare_results):
    assert "- 7.1 % of an image is covered by the mask" in results_text(results)
    assert "- Not available: the model has neither" in results_text(bare_results)
