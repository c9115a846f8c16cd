"""Procedural faces: an embedded benchmark for attribute recognition with a private label.

Every face is a function of (seed, stream, index). Gender, age and expression are visible all over
the face as soft, overlapping cues; the private label, iris, is visible only within `iris_mask`.
"""

from tf_mtl_privacy.data.synthetic_faces.attributes import ATTRIBUTES, SHIFTS, SIZES, Faces, Labels
from tf_mtl_privacy.data.synthetic_faces.rendering import labels, render

VERSION: int = 1
# SHA-256 of the pictures that the tests render; changed pictures need a new VERSION.
CHECKSUM: str = "bc439158ea992d21f716e2934166fc8a830b09f668dbb10f72c457609192fabe"

__all__ = [
    "ATTRIBUTES",
    "CHECKSUM",
    "SHIFTS",
    "SIZES",
    "VERSION",
    "Faces",
    "Labels",
    "labels",
    "render",
]
