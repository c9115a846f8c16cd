"""The write-ahead journal of private updates, beside a run's checkpoints. No TensorFlow.

A block of updates is reserved on disk before the first of it runs. Whatever kills the process, the
ledger then counts at least the updates that ran and at most one block more per process. Updates
whose weights were lost with a crash stay counted: logs may have told of them.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.privacy import ledger_file
from tf_mtl_privacy.privacy.accounting_events import Phase
from tf_mtl_privacy.privacy.ledger_state import VERSION, LedgerHeader, LedgerState

LEDGER_FILE = "ledger.jsonl"


def read_ledger(folder: str | os.PathLike[str]) -> LedgerState:
    """What a run has spent, read without locking; for reports.

    Raises:
        RunError: there is no ledger, or it is damaged.
    """
    path = Path(folder) / LEDGER_FILE
    return LedgerState(ledger_file.read(path)[0], str(path))


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
            ledger_file.create(path, first | {"run_id": secrets.token_hex(16)})
        self._file = ledger_file.AppendOnly(path)
        try:
            records, length = ledger_file.read(path)
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

    def phases(self) -> dict[str, Phase]:
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
        from tf_mtl_privacy.privacy.accounting import epsilon

        spent = self.phases()
        images = self._state.header.max_images_per_person if person else 1
        chosen = [spent[phase]] if phase else list(spent.values())
        return epsilon(chosen, delta, accountant, images_per_person=images)

    def affordable(
        self,
        phase: str,
        count: int,
        target_epsilon: float,
        delta: float,
        *,
        whole_run: bool = False,
        plan: int = 0,
    ) -> int:
        """How many of `count` more updates stay within the budget, by PLD: training stops at 0.

        Args:
            phase: its name.
            count: updates wanted, >= 0.
            target_epsilon: the budget.
            delta: in [1e-10, 1).
            whole_run: the budget is that of all phases together, not of this one alone.
            plan: updates that the phase was planned for; makes the first answer fast.
        """
        from tf_mtl_privacy.privacy.budget import affordable

        return affordable(
            self._state, phase, count, target_epsilon, delta, whole_run=whole_run, plan=plan
        )

    def can_reserve(
        self,
        phase: str,
        count: int,
        target_epsilon: float,
        delta: float,
        *,
        whole_run: bool = False,
    ) -> bool:
        """Whether all of `count` more updates stay within the budget; see `affordable`."""
        found = self.affordable(phase, count, target_epsilon, delta, whole_run=whole_run)
        return found == count

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
