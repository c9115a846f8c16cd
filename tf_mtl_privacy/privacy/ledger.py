"""The write-ahead journal of private updates, beside a run's checkpoints. No TensorFlow.

A block of updates is reserved on disk before the first of it runs. Whatever kills the process, the
ledger then counts at least the updates that ran and at most one block more per process. Updates
whose weights were lost with a crash stay counted: logs may have told of them.

An append-only file of JSON lines that survives kill -9 and power loss: each line is synced.

A line counts once its newline is on disk. A torn last line was never promised to anybody, because
`append` had not returned; it is cut off when the file is opened again.

What a ledger's records add up to. Pure: no files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import write_atomic
from tf_mtl_privacy.privacy.accounting.events import POISSON, MechanismRun, SampledGaussian
from tf_mtl_privacy.privacy.noise_record import CUT_LEDGER, NOISE


def create(path: Path, first: dict[str, Any]) -> None:
    """Makes the file with its first line, whole or not at all, unless another process did.

    Raises:
        RunError: it cannot be written.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    write_atomic(new, _line(first))
    new.chmod(0o600)
    # A link, unlike a rename, does not replace what another process made meanwhile.
    with contextlib.suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The records, and the length in bytes of the part of the file that holds them.

    Raises:
        RunError: it cannot be read, or a line before the last is not a record.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RunError(f"cannot read the ledger {path}: {error.strerror or error}") from error
    whole = content[: content.rfind(b"\n") + 1]
    records = []
    for number, line in enumerate(whole.splitlines(), start=1):
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("not an object")
        except ValueError as error:
            raise RunError(
                f"{path}:{number}: the ledger is damaged, so what was spent is not known; restore "
                "it from a backup or start another run"
            ) from error
        records.append(record)
    return records, len(whole)


class AppendOnly:
    """The open file, locked against other processes.

    Args:
        path: a file that exists.

    Raises:
        RunError: another process has it open, or it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._broken = path, False
        try:
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise RunError(f"cannot open the ledger {path}: {error.strerror or error}") from error
        try:
            # The system gives the lock back when the process ends, however it ends.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise RunError(
                f"the ledger {path} is in use by another process; wait for it or end it"
            ) from error

    def cut(self, length: int) -> None:
        """Drops what is beyond `length` bytes: a torn last line."""
        os.ftruncate(self._file, length)

    def append(self, record: dict[str, Any]) -> None:
        """Writes one record; it is on disk when this returns.

        Raises:
            RunError: it could not be written. What it announces must not happen, and nothing more
                can be written.
        """
        if self._broken:
            raise RunError(f"the ledger {self._path} could not be written before; start again")
        data = _line(record)
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
            os.fsync(self._file)
        except OSError as error:
            self._broken = True
            raise RunError(
                f"cannot write the ledger {self._path}: {error.strerror or error}"
            ) from error

    def close(self) -> None:
        """Closes the file and gives the lock back; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"


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

    phases: Mapping[str, SampledGaussian]
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
        phases = {name: SampledGaussian(**value) for name, value in values["phases"].items()}
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

    def phases(self, more: Mapping[str, int] | None = None) -> dict[str, MechanismRun]:
        """Phase name -> what is spent, with `more` updates of some phases on top."""
        return {name: self._phase(name, (more or {}).get(name, 0)) for name in self.header.phases}

    def _phase(self, name: str, more: int) -> MechanismRun:
        mechanism, sessions = self.header.phases[name], self.sessions[name]
        steps = self.spent(name) + more
        if mechanism.sampling == POISSON:
            return MechanismRun(mechanism, steps)
        # Each process goes through the epochs from its own start, and may repeat a part of one.
        per_epoch = mechanism.steps_per_epoch
        parts = [(session.start, session.counted) for session in sessions] or [(0, 0)]
        parts[-1] = (parts[-1][0], parts[-1][1] + more)
        passes = sum(
            (start + counted - 1) // per_epoch - start // per_epoch + 1
            for start, counted in parts
            if counted
        )
        return MechanismRun(mechanism, steps, passes)


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


LEDGER_FILE = "ledger.jsonl"


def read_ledger(folder: str | os.PathLike[str]) -> LedgerState:
    """What a run has spent, read without locking; for reports.

    Raises:
        RunError: there is no ledger, or it is damaged.
    """
    path = Path(folder) / LEDGER_FILE
    return LedgerState(read(path)[0], str(path))


class Ledger(contextlib.AbstractContextManager["Ledger"]):
    """A run's ledger, open for writing; use as a context manager.

    Args:
        folder: where the checkpoints are; `ledger.jsonl` is made in it if the run is new.
        header: the run's private updates. A ledger that is there must have the same.
        checkpoint: phase name -> number of updates in the weights that this process starts from
            (the optimizer's own counter, from the restored checkpoint); phases may be missing.
        run_id: the `run_id` that the checkpoint holds, if there is one.
        void: why this process guarantees nothing (a test key, zero noise), or "".

    Raises:
        UsageError: the header is another one.
        RunError: the checkpoint has private updates and there is no ledger, or the ledger has
            fewer of them, or belongs to another run, is damaged or in use.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        header: LedgerHeader,
        *,
        checkpoint: Mapping[str, int] | None = None,
        run_id: str = "",
        void: str = "",
    ) -> None:
        path = Path(folder) / LEDGER_FILE
        start = {phase: int((checkpoint or {}).get(phase, 0)) for phase in header.phases}
        unknown = sorted(set(checkpoint or {}) - set(header.phases))
        if unknown:
            raise RunError(f"{path}: the checkpoint has updates of unknown phases {unknown}")
        if not path.exists():
            _refuse_lost(path, start, run_id)
            first = {"kind": "header", "version": VERSION, "header": header.to_dict()}
            create(path, first | {"run_id": secrets.token_hex(16)})
        self._file = AppendOnly(path)
        try:
            records, length = read(path)
            self._state = LedgerState(records, str(path))
            self._state.header.check_same(header)
            _check_checkpoint(path, self._state, start, run_id)
            self._file.cut(length)
            self._write({"kind": "session", "at": start, "void": void})
        except BaseException:
            self._file.close()
            raise

    @property
    def run_id(self) -> str:
        """Random name of the run, to be kept in its checkpoints."""
        return self._state.run_id

    @property
    def state(self) -> LedgerState:
        """Everything that is counted, for reports; not to be changed."""
        return self._state

    @property
    def void(self) -> str:
        """Why nothing is guaranteed, or an empty string; once set, it stays."""
        return self._state.void

    def covered(self, phase: str) -> int:
        """The last update, in the checkpoint's count, that this process has reserved."""
        session = self._state.sessions[phase][-1]
        return session.start + session.counted

    def spent(self, phase: str) -> int:
        """Updates of a phase that count as run, those of earlier processes included."""
        return self._state.spent(phase)

    def phases(self) -> dict[str, MechanismRun]:
        """Phase name -> what is spent, for the accounting."""
        return self._state.phases()

    def reserve(self, phase: str, count: int) -> None:
        """Counts `count` more updates; they may run once this has returned.

        Raises:
            RunError: it could not be written to disk: the updates must not run.
        """
        if count < 1:
            raise ValueError(f"Expected count > 0: {count}")
        self._write({"kind": "reserve", "phase": phase, "count": count})

    def settle(self, phase: str, executed: int) -> None:
        """Gives back what was reserved and has not run. What runs next has to be reserved again.

        Args:
            phase: its name.
            executed: the optimizer's own counter of updates at this moment, which the checkpoint
                that is being written holds too. No update of the phase may be under way.

        Raises:
            RunError: more ran than was reserved (they are counted before this is raised), or
                fewer than at the start or the last time.
        """
        session = self._state.sessions[phase][-1]
        ran = executed - session.start
        if ran < session.settled:
            raise RunError(
                f"ledger: {phase} stands at {executed} updates but was at "
                f"{session.start + session.settled}; open the ledger anew after going back to an "
                "earlier checkpoint"
            )
        excess = ran - session.counted
        self._write({"kind": "settle", "phase": phase, "counted": ran})
        if excess > 0:
            raise RunError(f"ledger: {excess} updates of {phase} ran without being reserved")

    def epsilon(
        self, delta: float, accountant: str = "pld", *, phase: str = "", person: bool = False
    ) -> float:
        """Epsilon of what is spent: of the whole run, or of one phase.

        Args:
            delta: in [1e-10, 1).
            accountant: "pld" or "rdp".
            phase: its name; empty for all of them.
            person: protect all images of a person; infinite where their number is not bounded.
        """
        # dp-accounting takes a second to load, which a command that only reserves need not wait.
        from tf_mtl_privacy.privacy.accounting.epsilon import epsilon

        spent = self.phases()
        images = self._state.header.max_images_per_person if person else 1
        chosen = [spent[phase]] if phase else list(spent.values())
        return epsilon(chosen, delta, accountant, images_per_person=images)

    def close(self) -> None:
        """Closes the file. What is reserved and was not settled stays counted."""
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, record: dict[str, object]) -> None:
        if record["kind"] != "session" and record["phase"] not in self._state.sessions:
            raise UsageError(f"ledger: unknown phase {record['phase']!r}")
        # To disk first: what is counted in memory has to be there.
        self._file.append(record)
        self._state.apply(record)


def _refuse_lost(path: Path, start: Mapping[str, int], run_id: str) -> None:
    if any(start.values()) or run_id:
        raise RunError(
            f"{path}: no such file, but the checkpoint has {sum(start.values())} private updates; "
            "restore the ledger or start another run"
        )


def _check_checkpoint(
    path: Path, state: LedgerState, start: Mapping[str, int], run_id: str
) -> None:
    if run_id and run_id != state.run_id:
        raise RunError(f"{path}: the ledger of another run; restore this run's own")
    for phase, steps in start.items():
        if steps > state.spent(phase):
            raise RunError(
                f"{path}: {state.spent(phase)} updates of {phase}, but the checkpoint has {steps}; "
                "restore the newer ledger or start another run"
            )
