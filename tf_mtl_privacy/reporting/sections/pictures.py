"""The section of pictures: faces, what is restored of them, what is marked as sensitive."""

from __future__ import annotations

from collections.abc import Iterator

from tf_mtl_privacy.reporting.document import Block, Items, Missing, Notice, Picture
from tf_mtl_privacy.reporting.formats import decibel
from tf_mtl_privacy.reporting.privacy_card import private_name
from tf_mtl_privacy.reporting.region_lines import region_lines
from tf_mtl_privacy.reporting.run_folder import ReportRun, command

# Results that were written before there were maps have nothing about them.
_NOT_LOOKED_FOR = {"source": None, "reason": "this result is older than maps of regions"}


def picture_blocks(run: ReportRun) -> Iterator[Block]:
    """The sheets that lie in the run folder.

    They are there for drawn faces. Of real people they are there only where the run was asked for
    them (run_pictures.py), and the report says so.
    """
    if not run.of_nobody and (run.restored or run.regions):
        yield Notice("These are pictures of real people: pass this page on only as you may them.")
    regions = run.results.get("regions") or _NOT_LOOKED_FOR
    if run.restored:
        yield Picture(
            "restored",
            run.restored,
            "Test faces in the upper row, and below each what is restored from its features: PSNR "
            f"{decibel(run.results['restoration']['psnr_db'])} on average.",
            "Faces, and below each what is restored of it.",
            wide=True,
        )
    else:
        yield _missing(run, "Restored faces", "" if _has_restorer(run) else "no restorer")
    if run.regions:
        rows = ["faces", "what is marked in them (white line: the true region, where known)"]
        rows += ["what the encoder sees"] * (regions["source"] == "mask")
        rows += ["what is restored"] * _has_restorer(run)
        yield Picture(
            "regions",
            run.regions,
            f"A sheet of test faces; rows from top to bottom: {'; '.join(rows)}. "
            f"{'. '.join(region_lines(regions))}.",
            f"From top to bottom: {'; '.join(rows)}.",
            wide=True,
        )
    else:
        nothing = "" if regions["source"] or regions is _NOT_LOOKED_FOR else "nothing is marked"
        yield _missing(run, f"Regions that tell {private_name(run.results)}", nothing)
    yield Items("Sensitive regions", tuple(region_lines(regions)))


def _has_restorer(run: ReportRun) -> bool:
    return run.results["restoration"]["psnr_db"] is not None


def _missing(run: ReportRun, what: str, nothing: str) -> Missing:
    if nothing:
        return Missing(what, why=f"{nothing} in this model")
    if run.of_nobody:
        return Missing(what, command("evaluate", run))
    return Missing(
        what,
        why="pictures of real people are written only where train was given --log_images",
    )
