"""How hard membership attackers try."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Effort:
    """One amount of effort.

    Attributes:
        rows: most members, and most non-members.
        learners: who learns, names of `learned.LEARNERS`.
        head_rows: most members, and as many non-members, that the heads of `heads.py` are drawn
            from.
        heads: how many of them; even.
        head_epochs: passes of each over its rows.
    """

    rows: int
    learners: tuple[str, ...]
    head_rows: int
    heads: int
    head_epochs: int

    def with_rows(self, rows: int) -> Effort:
        """The same with at most so many rows on a side, heads drawn from as large a share."""
        pool = max(self.head_rows * rows // self.rows, 1)
        return dataclasses.replace(self, rows=rows, head_rows=pool)


EFFORTS = {
    "fast": Effort(
        rows=3_000, learners=("logistic", "trees"), head_rows=1_000, heads=4, head_epochs=4
    ),
    "thorough": Effort(
        rows=20_000,
        learners=("logistic", "trees", "mlp"),
        head_rows=10_000,
        heads=8,
        head_epochs=3,
    ),
}
