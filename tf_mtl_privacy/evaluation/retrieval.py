"""Who is on a picture, by its nearest neighbour in a gallery."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

Array = np.ndarray[Any, Any]
_COMPONENTS = 64
UNKNOWN = -1


class Embedding:
    """Pictures as whitened principal components (Turk and Pentland 1991, "eigenfaces").

    Fitted to pictures of other people, it knows nothing of the network that is attacked. Distances
    are cosine distances between whitened components.

    Args:
        images: `[N, H, W, 3]` float in [0, 1], what it is fitted to; N >= 2.
        seed: of the decomposition.
    """

    def __init__(self, images: Array, seed: int) -> None:
        flat = images.reshape(len(images), -1)
        components = min(_COMPONENTS, len(flat) - 1, flat.shape[1])
        self._pca = PCA(components, whiten=True, svd_solver="randomized", random_state=seed)
        self._pca.fit(flat)

    def __call__(self, images: Array) -> Array:
        """`[N, H, W, 3]` -> `[N, components]`."""
        return np.asarray(self._pca.transform(images.reshape(len(images), -1)))


class Retrieval(NamedTuple):
    """How often the nearest picture was the right one.

    Attributes:
        hits: queries whose nearest picture is right.
        queries: how many were asked.
        chance: share that a picture drawn at random gets right.
    """

    hits: int
    queries: int
    chance: float


def nearest_is_own(queries: Array, gallery: Array) -> Retrieval:
    """Whether picture i of the gallery is the nearest to query i.

    Args:
        queries: `[N, d]`, N > 0.
        gallery: `[N, d]`.
    """
    found = _nearest(gallery, queries, 1)[:, 0]
    return Retrieval(int((found == np.arange(len(queries))).sum()), len(queries), 1 / len(gallery))


def nearest_is_same_person(queries: Array, gallery: Array, person: Array) -> Retrieval | None:
    """Whether the nearest *other* picture shows the same person.

    Query i is never compared with picture i. Only those are asked for whose person is known and
    has another picture in the gallery.

    Args:
        queries: `[N, d]`.
        gallery: `[N, d]`.
        person: `[N]` int, -1 where unknown.

    Returns:
        None where nobody has two pictures.
    """
    known = person != UNKNOWN
    places = np.flatnonzero(known)
    _, inverse, counts = np.unique(person[known], return_inverse=True, return_counts=True)
    pictures = counts[inverse]
    asked = np.flatnonzero(pictures > 1)
    if not len(asked):
        return None
    mine = places[asked]
    found = places[_nearest(gallery[known], queries[mine], 2)]
    # The first of the two that is not the query's own picture.
    other = np.where(found[:, 0] == mine, found[:, 1], found[:, 0])
    hits = int((person[other] == person[mine]).sum())
    return Retrieval(hits, len(mine), float((pictures[asked] - 1).mean() / (len(places) - 1)))


def _nearest(gallery: Array, queries: Array, count: int) -> Array:
    search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(gallery)
    return np.asarray(search.kneighbors(queries, return_distance=False))
