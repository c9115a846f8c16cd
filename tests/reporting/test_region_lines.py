"""What the terminal says of sensitive regions."""

from tests.reporting.regions import marked_by_discriminator, no_regions, whole_regions
from tf_mtl_privacy.reporting.region_lines import region_lines
from tf_mtl_privacy.reporting.tables import results_table


def test_a_mask_that_was_scored():
    assert region_lines(whole_regions()) == [
        "7.1 % of a picture covered by the mask; true regions (regions of the data set): 3.6 %",
        "93.3 % of the true region is covered (at least 66.2 % in 99 % of pictures)",
        "IoU 47.6 %, maximum inside 97.3 %, sum inside 42.6 %; 2,000 pictures",
        "a fixed template, the same for every face, instead: IoU 50.1 %, maximum inside 90.0 %, "
        "sum inside 51.9 %",
        "the mask against the template: better: maximum inside; WORSE: IoU, sum inside (the mask "
        "covers 2.0 times the true region: its margin counts)",
    ]


def test_what_wins_against_a_template_is_said_both_ways():
    regions = whole_regions() | {"iou": 0.6, "energy": 0.6}
    assert region_lines(regions)[-1] == (
        "the mask against the template: better: IoU, maximum inside, sum inside"
    )
    regions["fixed"] = {name: regions[name] for name in ("iou", "pointing", "energy", "area")}
    assert region_lines(regions)[-1].endswith("template: alike in all three")
    # A mask that covers too little has no margin to blame.
    regions = whole_regions() | {"area": 0.02}
    assert region_lines(regions)[-1].endswith("WORSE: IoU, sum inside")


def test_discs_around_the_eyes_are_a_reference_and_nothing_is_called_worse_by_them():
    lines = region_lines(whole_regions() | {"truth": "discs around the eyes"})
    assert lines[0].endswith("reference regions, not the truth (discs around the eyes): 3.6 %")
    assert lines[1].startswith("93.3 % of the reference region is covered")
    assert lines[-1].endswith("the label may be read elsewhere, so neither is called better")
    assert not any("WORSE" in line or "better:" in line for line in lines)


def test_template_that_fits_everywhere_is_no_rival():
    fixed = {"iou": 1.0, "pointing": 1.0, "energy": 1.0, "area": 0.04}
    lines = region_lines(whole_regions() | {"fixed": fixed})
    assert lines[-1].endswith("a template cannot be beaten") and "WORSE" not in str(lines)


def test_a_discriminator_only_marks():
    lines = region_lines(marked_by_discriminator())
    assert lines[0].startswith("3.0 % of a picture marked by the discriminator;")
    assert len(lines) == 4 and not any("cover" in line for line in lines)
    assert lines[-1] == (
        "the discriminator's map against the template: better: maximum inside; WORSE: IoU, sum "
        "inside"
    )


def test_what_is_not_known_is_said():
    assert region_lines(no_regions()) == ["none: the model has neither a mask nor a discriminator"]
    unknown = no_regions("lfw does not say where", source="mask", area=0.05)
    assert region_lines(unknown) == [
        "5.0 % of a picture covered by the mask",
        "not scored: lfw does not say where",
    ]
    bare = no_regions("lfw does not say where", source="discriminator")
    assert region_lines(bare) == ["not scored: lfw does not say where"]


def test_no_guess_without_validation_rows():
    assert len(region_lines(whole_regions() | {"fixed": None})) == 3


def test_they_stand_in_the_table(results, bare_results):
    assert "Sensitive regions       7.1 % of a picture covered" in results_table(results)
    assert "Sensitive regions       none: the model has neither" in results_table(bare_results)
