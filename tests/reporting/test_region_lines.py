"""What the terminal says of sensitive regions."""

from tests.reporting.regions import marked_by_discriminator, no_regions, whole_regions
from tf_mtl_privacy.reporting.region_lines import region_lines
from tf_mtl_privacy.reporting.tables import results_table


def test_a_mask_that_was_scored():
    assert region_lines(whole_regions()) == [
        "7.1 % of a picture covered by the mask; true regions (regions of the data set): 3.6 %",
        "93.3 % of the true region is covered (at least 66.2 % in 99 % of pictures)",
        "IoU 47.6 %, maximum inside 97.3 %, sum inside 42.6 %; 2,000 pictures",
        "one guess for every picture instead: IoU 50.1 %, maximum inside 90.0 %, sum inside 51.9 %",
    ]


def test_a_discriminator_only_marks():
    lines = region_lines(marked_by_discriminator())
    assert lines[0].startswith("3.0 % of a picture marked by the discriminator;")
    assert len(lines) == 3 and not any("cover" in line for line in lines)


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
