"""What a ledger's records add up to. Pure: no files."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.privacy.accounting_events import POISSON, Mechanism, Phase
from tf_mtl_privacy.privacy.noise_record import CUT_LEDGER, NOISE

# Ledgers of version 1 count updates whose noise was cut; those of version 2 have `NOISE`.
VERSION = 2


@dataclasses.dataclass(frozen=True)
class LedgerHeader:
    """What a run's private updates are; fixed when the run starts.

    Attributes:
        phases: phase name -> its update.
        l2_norm_clip: C > 0.
        unit: what is protected: "example".
        max_images_per_person: the sampler's bound on rows per person, 0 where there is none.
    """

    phases: Mapping[str, Mechanism]
    l2_norm_clip: float
    unit: str = "example"
    max_images_per_person: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return dataclasses.asdict(self) | {
            "phases": {name: dataclasses.asdict(value) for name, value in self.phases.items()}
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LedgerHeader:
        """The inverse of `to_dict`."""
        phases = {name: Mechanism(**value) for name, value in values["phases"].items()}
        return cls(**{**values, "phases": phases})

    def check_same(self, other: LedgerHeader) -> None:
        """Refuses another header, naming the first value that differs.

        Raises:
            UsageError: a phase, or a value of one, is not that of this header.
        """
        mine, asked = _flat(self.to_dict()), _flat(other.to_dict())
        for name in sorted({*mine, *asked}):
            here, there = mine.get(name), asked.get(name)
            if not _same(here, there):
                raise UsageError(
                    f"{name}={there}: this run's ledger was begun with {here}; continue with that "
                    "or start another --run_dir"
                )


@dataclasses.dataclass
class Session:
    """One process's part of a phase.

    Attributes:
        start: updates in the weights that it started from.
        counted: updates after these that are counted.
        settled: updates after these that had run when it was last settled.
        block: the most that were reserved at once.
    """

    start: int
    counted: int = 0
    settled: int = 0
    block: int = 0


class LedgerState:
    """Replays records.

    Attributes:
        header: the run's updates.
        run_id: random name of the run, for its checkpoints.
        noise: `NOISE`; None where the updates have the noise of an earlier version.
        void: why nothing is guaranteed, or "".
        sessions: phase name -> the parts of it, one per process that ran it.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]], name: str = "ledger") -> None:
        self._name = name
        rest = iter(records)
        first = next(rest, {})
        version = first.get("version")
        if first.get("kind") != "header" or version not in (1, VERSION):
            raise RunError(f"{name}: not a ledger of version {VERSION}")
        try:
            self.header = LedgerHeader.from_dict(first["header"])
            self.run_id, self.void = str(first["run_id"]), CUT_LEDGER if version == 1 else ""
            self.noise = None if version == 1 else NOISE
            self.sessions: dict[str, list[Session]] = {name: [] for name in self.header.phases}
            for record in rest:
                self.apply(record)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise RunError(f"{name}: the ledger is damaged ({type(error).__name__})") from error

    def apply(self, record: Mapping[str, Any]) -> None:
        """Adds one record."""
        kind = record["kind"]
        if kind == "session":
            for phase, start in record["at"].items():
                self.sessions[phase].append(Session(int(start)))
            self.void = self.void or str(record["void"])
        elif kind == "reserve":
            session, count = self.sessions[record["phase"]][-1], _count(record["count"])
            session.counted += count
            session.block = max(session.block, count)
        elif kind == "settle":
            session = self.sessions[record["phase"]][-1]
            session.counted = session.settled = _count(record["counted"])
        else:
            raise RunError(f"{self._name}: unknown record {kind!r}")

    def spent(self, phase: str) -> int:
        """Updates of a phase that count as run."""
        return sum(session.counted for session in self.sessions[phase])

    @property
    def kill_allowance(self) -> int:
        """Updates that any one phase may have lost to kills: a block for each killed process.

        Processes before the last one that left a reservation unsettled count as killed. The number
        depends on how many there were and on the size of their blocks, not on what they lost.
        """
        processes = zip(*self.sessions.values(), strict=True)
        killed = [p for p in list(processes)[:-1] if any(s.counted > s.settled for s in p)]
        return sum(max(session.block for session in process) for process in killed)

    def phases(self, more: Mapping[str, int] | None = None) -> dict[str, Phase]:
        """Phase name -> what is spent, with `more` updates of some phases on top."""
        return {name: self._phase(name, (more or {}).get(name, 0)) for name in self.header.phases}

    def _phase(self, name: str, more: int) -> Phase:
        mechanism, sessions = self.header.phases[name], self.sessions[name]
        steps = self.spent(name) + more
        if mechanism.sampling == POISSON:
            return Phase(mechanism, steps)
        # Each process goes through the epochs from its own start, and may repeat a part of one.
        per_epoch = mechanism.steps_per_epoch
        parts = [(session.start, session.counted) for session in sessions] or [(0, 0)]
        parts[-1] = (parts[-1][0], parts[-1][1] + more)
        passes = sum(
            (start + counted - 1) // per_epoch - start // per_epoch + 1
            for start, counted in parts
            if counted
        )
        return Phase(mechanism, steps, passes)


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise TypeError(value)
    return value


def _same(here: Any, there: Any) -> bool:
    if isinstance(here, float) and isinstance(there, (int, float)):
        # Calibrated noise may differ in its last digit on another machine.
        return math.isclose(here, there, rel_tol=1e-9)
    return bool(here == there)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found
