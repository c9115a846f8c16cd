"""Procedural faces as a source: streams train, validation and test of the size asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tf_mtl_privacy.config import DataConfig
from tf_mtl_privacy.data import synthetic_faces
from tf_mtl_privacy.data.labels import Labels, make_targets
from tf_mtl_privacy.data.sources.base import SPLITS, LabelTable, Pictures, fingerprint

DEFAULT_ROWS = {"train": 12_000, "validation": 2_000, "test": 4_000}


class SyntheticSource:
    """The faces of `synthetic_faces` as rows: all of train, then validation, then test.

    Rows are drawn per stream, so streams share no picture; with identities they share people.

    Args:
        config: how many rows, of which kind.
        train_stream: stream of the training rows, instead of the one that `config` names.
    """

    has_regions = True

    def __init__(self, config: DataConfig, *, train_stream: str = "") -> None:
        self.name, self.size = "synthetic_faces", config.image_size
        asked = {
            "train": config.train_rows,
            "validation": config.validation_rows,
            "test": config.test_rows,
        }
        self._rows = {name: asked[name] or DEFAULT_ROWS[name] for name in asked}
        # Split -> the stream its faces come from.
        self._streams = {name: name for name in asked} | {
            "train": train_stream or config.synthetic_stream
        }
        self._starts = np.cumsum([0, *self._rows.values()])
        self._seed = config.data_seed
        with_people = config.effective_private_label == "identity"
        self._people = config.num_identities if with_people else 0
        self._correlation = config.synthetic_correlation
        self._shift = config.synthetic_shift

    def fingerprint(self) -> str:
        """See `DataSource.fingerprint`."""
        return fingerprint(
            self.name,
            synthetic_faces.VERSION,
            self.size,
            self._seed,
            self._rows,
            self._people,
            self._correlation,
            self._shift,
            *(["stream", self._streams["train"]] if self._streams["train"] != "train" else []),
        )

    def load(self) -> LabelTable:
        """See `DataSource.load`."""
        parts = [
            synthetic_faces.labels(
                self._seed,
                self._streams[split],
                np.arange(count),
                num_identities=self._people,
                correlation=self._correlation,
            )
            for split, count in self._rows.items()
        ]
        keys = [
            f"{self._streams[split]}/{i}"
            for split, count in self._rows.items()
            for i in range(count)
        ]
        person = np.concatenate([part.identity for part in parts]).astype(np.int64)
        return LabelTable(
            keys=np.array(keys),
            split=np.concatenate(
                [np.full(count, SPLITS.index(name), np.int8) for name, count in self._rows.items()]
            ),
            attributes={
                name: np.concatenate([getattr(part, name) for part in parts]).astype(np.int32)
                for name in synthetic_faces.ATTRIBUTES
            },
            attribute_classes={k: tuple(v) for k, v in synthetic_faces.ATTRIBUTES.items()},
            person=person if self._people else None,
        )

    def read(self, rows: np.ndarray) -> Pictures:
        """See `DataSource.read`."""
        shape = (len(rows), self.size, self.size)
        images, regions = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool)
        for number, split in enumerate(self._rows):
            start, stop = self._starts[number : number + 2]
            here = (rows >= start) & (rows < stop)
            if here.any():
                faces = synthetic_faces.render(
                    self._seed,
                    self._streams[split],
                    rows[here] - start,
                    size=self.size,
                    shift=self._shift,
                    num_identities=self._people,
                    correlation=self._correlation,
                )
                images[here], regions[here] = faces.image, faces.iris_mask
        return Pictures(images, [""] * len(rows), regions)


def attacker_faces(config: DataConfig, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Faces that no encoder is trained on: the stream 'attacker', otherwise as `config` says.

    With identities they are other pictures of the same people.

    Args:
        config: seed, size, shift, correlation and private label of the faces.
        count: how many, > 0.

    Returns:
        `[count, S, S, 3]` uint8 pictures and `[count]` int32 private labels, -1 without one.
    """
    read, labels = fresh_faces(config, "attacker", count)
    return read(np.arange(count)), labels.private


def fresh_faces(
    config: DataConfig, stream: str, count: int
) -> tuple[Callable[[np.ndarray], np.ndarray], Labels]:
    """Faces of a stream that is none of the data set's, otherwise as `config` says.

    With identities they are other pictures of the same people.

    Args:
        config: seed, size, shift, correlation, tasks and private label of the faces.
        stream: its name; streams share no picture.
        count: how many, > 0.

    Returns:
        A function that draws faces (`[n]` numbers below `count` -> `[n, S, S, 3]` uint8), and the
        labels of all of them.
    """
    # A row of each other split, because 0 means the usual number of them; they are not drawn.
    whole = dataclasses.replace(config, train_rows=count, validation_rows=1, test_rows=1)
    source = SyntheticSource(whole, train_stream=stream)
    table = source.load()
    named = dataclasses.replace(config, private_label="none")
    by_person = config.effective_private_label == "identity"
    labels = make_targets(table, named if by_person else config).labels
    private = labels.private
    if by_person:
        assert table.person is not None
        private = table.person.astype(np.int32)
    business = {task: values[:count] for task, values in labels.business.items()}
    return lambda rows: source.read(rows).images, Labels(business, private[:count])
