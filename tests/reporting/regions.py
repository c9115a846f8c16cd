"""Parts of results.json on sensitive regions, as evaluation/marked_regions.py makes them."""

EMPTY = dict.fromkeys(
    (
        "source",
        "truth",
        "iou",
        "pointing",
        "energy",
        "area",
        "covered",
        "covered_p1",
        "true_area",
        "share",
        "fixed",
    )
)


def whole_regions():
    """Of a mask on synthetic faces."""
    return {
        "source": "mask",
        "truth": "regions of the data set",
        "iou": 0.476,
        "pointing": 0.973,
        "energy": 0.426,
        "area": 0.0712,
        "covered": 0.9328,
        "covered_p1": 0.662,
        "true_area": 0.0359,
        "share": None,
        "fixed": {"iou": 0.501, "pointing": 0.9, "energy": 0.519, "area": 0.04},
        "n": 2000,
    }


def marked_by_discriminator():
    """Without a mask nothing is covered."""
    nothing = {"covered": None, "covered_p1": None, "share": 0.03, "area": 0.03}
    reason = "nothing is covered: the run has no mask"
    return whole_regions() | nothing | {"source": "discriminator", "reason": reason}


def no_regions(reason="the model has neither a mask nor a discriminator", **known):
    return {**EMPTY, "n": 0, **known, "reason": reason}
