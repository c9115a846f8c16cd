"""Write-ahead ledger of private updates, kept beside a run's checkpoints. No TensorFlow.

Updates are reserved on disk, in blocks, before the first of them runs. Whenever a process is
killed, the ledger counts at least the updates that ran, and at most one block more per process.
Updates whose weights were lost in a crash stay counted, because logs may have revealed them.

- `Ledger` is the open ledger of a run: reserve, settle, epsilon.
- `read_ledger` gives its `LedgerState` without locking; `ledger_report` turns a state into the
  values of a result file.
- The file is append-only JSON lines, each synced to disk, so it survives `kill -9` and power loss.
  A line counts once its newline is on disk. `append` has not returned for a torn last line, so
  nothing depends on it; it is cut off when the file is opened again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import math
import os
import secrets
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.files import write_atomic
from tf_mtl_privacy.privacy.accounting.events import (
    POISSON,
    MechanismRun,
    SampledGaussian,
    adjacency,
    paper_epsilon,
)
from tf_mtl_privacy.privacy.noise_record import CUT_LEDGER, NOISE

LEDGER_FILE = "ledger.jsonl"
# Ledgers of version 1 count updates whose noise was cut; those of version 2 have `NOISE`.
VERSION = 2


class Ledger(contextlib.AbstractContextManager["Ledger"]):
    """A run's ledger, open for writing and locked; use as a context manager.

    Args:
        folder: the checkpoints' folder; `ledger.jsonl` is created in it for a new run.
        header: the run's private updates; an existing ledger must have the same.
        checkpoint: phase name -> number of updates in the weights that this process starts from
            (the optimizer's own counter, from the restored checkpoint); phases may be missing.
        run_id: the `run_id` in the checkpoint, if there is one.
        void: reason why this process guarantees nothing (a test key, zero noise), or "".

    Raises:
        UsageError: the existing ledger has another header.
        RunError: the checkpoint has private updates but there is no ledger, or the ledger has
            fewer of them, belongs to another run, is damaged or in use.
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
            _create(path, first | {"run_id": secrets.token_hex(16)})
        self._file = _AppendOnly(path)
        try:
            records, length = _read(path)
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
        """Random name of the run, to be stored in its checkpoints."""
        return self._state.run_id

    @property
    def state(self) -> LedgerState:
        """Current counts, for reports; read-only."""
        return self._state

    @property
    def void(self) -> str:
        """Reason why nothing is guaranteed, or an empty string; once set, it stays."""
        return self._state.void

    def covered(self, phase: str) -> int:
        """Returns the last update, in the checkpoint's count, that this process has reserved."""
        session = self._state.sessions[phase][-1]
        return session.start + session.counted

    def spent(self, phase: str) -> int:
        """Returns the updates of a phase that count as run, earlier processes included."""
        return self._state.spent(phase)

    def phases(self) -> dict[str, MechanismRun]:
        """Returns phase name -> updates spent, for the accounting."""
        return self._state.phases()

    def reserve(self, phase: str, count: int) -> None:
        """Counts `count` more updates, which may run once this has returned.

        Raises:
            RunError: the disk could not be written; the updates must not run.
        """
        if count < 1:
            raise ValueError(f"Expected count > 0: {count}")
        self._write({"kind": "reserve", "phase": phase, "count": count})

    def settle(self, phase: str, executed: int) -> None:
        """Returns reserved updates that have not run; the next ones must be reserved again.

        Args:
            phase: its name.
            executed: the optimizer's own update counter at this moment, as in the checkpoint being
                written. No update of the phase may be in progress.

        Raises:
            RunError: more updates ran than were reserved (they are counted before this is raised),
                or fewer than at the start or the last call.
        """
        session = self._state.sessions[phase][-1]
        ran = executed - session.start
        if ran < session.settled:
            raise RunError(
                f"ledger: {phase} has {executed} updates but had "
                f"{session.start + session.settled}; reopen the ledger after restoring an earlier "
                "checkpoint"
            )
        excess = ran - session.counted
        self._write({"kind": "settle", "phase": phase, "counted": ran})
        if excess > 0:
            raise RunError(f"ledger: {excess} updates of {phase} ran without being reserved")

    def epsilon(
        self, delta: float, accountant: str = "pld", *, phase: str = "", person: bool = False
    ) -> float:
        """Computes the epsilon spent by the whole run or by one phase.

        Args:
            delta: in [1e-10, 1).
            accountant: "pld" or "rdp".
            phase: its name; empty for all of them.
            person: protect all examples of a person; infinite if their number is not bounded.
        """
        # dp-accounting takes a second to load, and most users of a ledger only reserve.
        from tf_mtl_privacy.privacy.accounting.epsilon import epsilon

        spent = self.phases()
        images = self._state.header.max_images_per_person if person else 1
        chosen = [spent[phase]] if phase else list(spent.values())
        return epsilon(chosen, delta, accountant, images_per_person=images)

    def close(self) -> None:
        """Closes the file. Reserved updates that were not settled stay counted."""
        self._file.close()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, record: dict[str, object]) -> None:
        if record["kind"] != "session" and record["phase"] not in self._state.sessions:
            raise UsageError(f"ledger: unknown phase {record['phase']!r}")
        # To disk first, so that memory never counts more than the disk.
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


def read_ledger(folder: str | os.PathLike[str]) -> LedgerState:
    """Reads the ledger of a run without locking, for reports.

    Raises:
        RunError: there is no ledger, or it is damaged.
    """
    path = Path(folder) / LEDGER_FILE
    return LedgerState(_read(path)[0], str(path))


@dataclasses.dataclass(frozen=True)
class LedgerHeader:
    """Description of a run's private updates, fixed when the run starts.

    Attributes:
        phases: phase name -> its update.
        l2_norm_clip: C > 0.
        unit: unit of protection, "example".
        max_images_per_person: the sampler's bound on rows per person, 0 for no bound.
    """

    phases: Mapping[str, SampledGaussian]
    l2_norm_clip: float
    unit: str = "example"
    max_images_per_person: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return dataclasses.asdict(self) | {
            "phases": {name: dataclasses.asdict(value) for name, value in self.phases.items()}
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LedgerHeader:
        """Inverts `to_dict`."""
        phases = {name: SampledGaussian(**value) for name, value in values["phases"].items()}
        return cls(**{**values, "phases": phases})

    def check_same(self, other: LedgerHeader) -> None:
        """Refuses another header, naming the first value that differs.

        Raises:
            UsageError: a phase, or a value of one, differs from this header.
        """
        mine, theirs = _flat(self.to_dict()), _flat(other.to_dict())
        for name in sorted({*mine, *theirs}):
            here, there = mine.get(name), theirs.get(name)
            if not _same(here, there):
                raise UsageError(
                    f"{name}={there}: this run's ledger was started with {here}; continue with "
                    "that or start another --run_dir"
                )


class LedgerState:
    """Totals of a ledger's records, in memory.

    Attributes:
        header: the run's updates.
        run_id: random name of the run, for its checkpoints.
        noise: `NOISE`; None if the updates have the noise of an earlier version.
        void: reason why nothing is guaranteed, or "".
        sessions: phase name -> its parts, one per process that ran it.
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
        """Returns the updates of a phase that count as run."""
        return sum(session.counted for session in self.sessions[phase])

    @property
    def kill_allowance(self) -> int:
        """Updates that any one phase may have lost to kills: a block for each killed process.

        Processes before the last one that left a reservation unsettled count as killed. The number
        depends on how many there were and on the size of their blocks, not on their losses.
        """
        processes = zip(*self.sessions.values(), strict=True)
        killed = [p for p in list(processes)[:-1] if any(s.counted > s.settled for s in p)]
        return sum(max(session.block for session in process) for process in killed)

    def phases(self, more: Mapping[str, int] | None = None) -> dict[str, MechanismRun]:
        """Returns phase name -> updates spent, with `more` updates of some phases added."""
        return {name: self._phase(name, (more or {}).get(name, 0)) for name in self.header.phases}

    def _phase(self, name: str, more: int) -> MechanismRun:
        mechanism, sessions = self.header.phases[name], self.sessions[name]
        steps = self.spent(name) + more
        if mechanism.sampling == POISSON:
            return MechanismRun(mechanism, steps)
        # Each process continues the epochs from its own start, and may repeat a part of one.
        per_epoch = mechanism.steps_per_epoch
        parts = [(session.start, session.counted) for session in sessions] or [(0, 0)]
        parts[-1] = (parts[-1][0], parts[-1][1] + more)
        passes = sum(
            (start + counted - 1) // per_epoch - start // per_epoch + 1
            for start, counted in parts
            if counted
        )
        return MechanismRun(mechanism, steps, passes)


@dataclasses.dataclass
class Session:
    """Part of a phase that one process ran.

    Attributes:
        start: updates in the weights at its start.
        counted: updates counted since then.
        settled: updates that had run since then when it last settled.
        block: largest number reserved at once.
    """

    start: int
    counted: int = 0
    settled: int = 0
    block: int = 0


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
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def ledger_report(
    state: LedgerState,
    delta: float,
    planned: Mapping[str, int] | None = None,
    ended_early: Collection[str] = (),
) -> dict[str, Any]:
    """Computes the epsilon of a run and of its phases, per example and per person.

    If a phase ended early because of a measurement on the trained weights, the number of updates
    that ran depends on the data. Then the plan counts, which was fixed before:
    docs/accounting.md#phases-that-end-early has the proof. After kills a phase may exceed its plan
    by a block each (`LedgerState.kill_allowance`), and which phase does depends on where the others
    ended; then every phase counts with its plan and all of these blocks.

    Args:
        state: counts of an open ledger (`Ledger.state`) or from `read_ledger`.
        delta: delta at which every epsilon holds; see `check_delta`.
        planned: phase name -> its planned updates; needed for phases that ended early.
        ended_early: these phases.

    Returns:
        JSON values; an epsilon that does not exist is None, and in a void run all are. Keys: delta,
        epsilon_pld, epsilon_rdp, as_run {epsilon_pld, epsilon_rdp}, adjacency, sampling, unit,
        noise (`noise_record.NOISE`, or None), steps, void (bool), void_reason, l2_norm_clip,
        max_images_per_person, person {epsilon_pld, epsilon_rdp}, phases {name: {epsilon_pld,
        epsilon_rdp, steps, noise_multiplier, sampling, sampling_probability, rows,
        overflow_probability, paper_rule_one_step}}.
    """
    from tf_mtl_privacy.privacy.accounting.epsilon import epsilon

    ran, images = state.phases(), state.header.max_images_per_person
    phases = counted_phases(state, planned, ended_early)
    whole = list(phases.values())

    def both(chosen: list[MechanismRun], images: int = 1) -> dict[str, float | None]:
        if state.void:
            return {"epsilon_pld": None, "epsilon_rdp": None}
        return {
            f"epsilon_{name}": _finite(epsilon(chosen, delta, name, images_per_person=images))
            for name in ("pld", "rdp")
        }

    samplings = sorted({phase.mechanism.sampling for phase in whole})
    return {
        "delta": delta,
        **both(whole),
        "as_run": both(list(ran.values())),
        "adjacency": adjacency(whole),
        "sampling": " and ".join(samplings),
        "unit": state.header.unit,
        "noise": state.noise,
        "steps": sum(phase.steps for phase in ran.values()),
        "void": bool(state.void),
        "void_reason": state.void or None,
        "l2_norm_clip": state.header.l2_norm_clip,
        "max_images_per_person": images,
        "person": both(whole, images),
        "phases": {
            name: {
                **both([phase]),
                "steps": ran[name].steps,
                "noise_multiplier": phase.mechanism.noise_multiplier,
                "sampling": phase.mechanism.sampling,
                "sampling_probability": phase.mechanism.sampling_probability,
                "rows": phase.mechanism.rows,
                "overflow_probability": phase.mechanism.overflow_probability,
                "paper_rule_one_step": _finite(
                    paper_epsilon(phase.mechanism.noise_multiplier, delta)
                ),
            }
            for name, phase in phases.items()
        },
    }


def counted_phases(
    state: LedgerState,
    planned: Mapping[str, int] | None = None,
    ended_early: Collection[str] = (),
) -> dict[str, MechanismRun]:
    """Returns phase name -> the updates that `ledger_report` states the epsilon of."""
    planned, ran = planned or {}, state.phases()
    allowance = state.kill_allowance if ended_early else 0
    names = planned if allowance else ended_early
    return state.phases(
        {name: max(0, planned[name] + allowance - ran[name].steps) for name in names}
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _create(path: Path, first: dict[str, Any]) -> None:
    """Creates the file with its first line, atomically, unless another process did.

    Raises:
        RunError: the disk cannot be written.
    """
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    write_atomic(new, _line(first))
    new.chmod(0o600)
    # Unlike a rename, a link does not replace a file that another process made meanwhile.
    with contextlib.suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Returns the records, and the length in bytes of the part of the file that holds them.

    Raises:
        RunError: the file cannot be read, or a line before the last is not a record.
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
                f"{path}:{number}: the ledger is damaged, so the spent budget is unknown; restore "
                "it from a backup or start another run"
            ) from error
        records.append(record)
    return records, len(whole)


class _AppendOnly:
    """Open append-only file, locked against other processes.

    Args:
        path: an existing file.

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
            # The system releases the lock however the process ends.
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise RunError(
                f"the ledger {path} is in use by another process; wait for it or end it"
            ) from error

    def cut(self, length: int) -> None:
        """Truncates the file to `length` bytes: drops a torn last line."""
        os.ftruncate(self._file, length)

    def append(self, record: dict[str, Any]) -> None:
        """Writes one record; it is on disk when this returns.

        Raises:
            RunError: the disk could not be written. The reserved updates must not run, and
                nothing more can be written.
        """
        if self._broken:
            raise RunError(f"the ledger {self._path} could not be written earlier; restart the run")
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
        """Closes the file and releases the lock; may be called twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False).encode() + b"\n"
