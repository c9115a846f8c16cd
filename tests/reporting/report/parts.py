"""Finds parts of a report."""

from tf_mtl_privacy.reporting.document import Table


def blocks(report, kind, anchor=None):
    return [
        block
        for section in report.sections
        for block in section.blocks
        if isinstance(block, kind) and anchor in (None, section.anchor)
    ]


def table(report, words):
    (found,) = [block for block in blocks(report, Table) if words in block.caption]
    return found
