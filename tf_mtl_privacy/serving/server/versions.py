"""Versions of a model: loads the newest one in its folder and polls for newer ones."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.export.version_folder import no_version, versions
from tf_mtl_privacy.serving.server.errors import Code, RequestError
from tf_mtl_privacy.serving.server.model import Model


class Versions:
    """Holds the newest version that could be loaded.

    Args:
        folder: the model's folder, with one folder for each version.
        name: the model's name.
        warm_up: called with a version before it is served.
        report: called with a line when a version was loaded or could not be loaded.

    Raises:
        UsageError: the folder has no version.
        RunError: the newest version cannot be loaded.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        warm_up: Callable[[Model], object] = lambda model: None,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder, self.name = folder, name
        self._warm_up, self._report = warm_up, report
        numbers = versions(folder)
        if not numbers:
            raise UsageError(no_version(folder))
        self._broken: set[int] = set()
        self._newest = self._load(numbers[-1])

    @property
    def newest(self) -> Model:
        """The version that is served."""
        return self._newest

    def find(self, name: str, version: int | None) -> Model:
        """Returns the requested version, or the newest for None.

        Raises:
            RequestError: that model or version is not served.
        """
        model = self._newest
        if name != self.name or version not in (None, model.version):
            wanted = name[:60] + ("" if version is None else f" version {version}")
            raise RequestError(
                Code.NOT_FOUND,
                f"Servable not found for request: {wanted!r}; this server has {self.name} version "
                f"{model.version}",
            )
        return model

    def refresh(self) -> None:
        """Loads a newer version if there is one; a version that fails to load is not retried."""
        newer = [
            number
            for number in versions(self.folder)
            if number > self._newest.version and number not in self._broken
        ]
        if newer:
            try:
                self._newest = self._load(newer[-1])
            except RunError as error:
                self._broken.add(newer[-1])
                self._report(f"still serving version {self._newest.version}: {error}")

    def _load(self, number: int) -> Model:
        folder = self.folder / str(number)
        try:
            model = Model(folder)
            self._warm_up(model)
        except RunError:
            raise
        except Exception as error:
            # A damaged model or warm-up file can raise anything.
            lines = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {lines[0][:200]}"
            raise RunError(f"{folder} cannot be served: {reason}") from error
        self._report(f"serving {self.name} version {number}")
        return model


class Poller:
    """Calls `function` every `seconds` in a thread of its own, until closed.

    Args:
        function: may fail; it is called again anyway.
        seconds: pause between two calls.
        report: called with a line about a failure; repeated failures are reported once.
    """

    def __init__(
        self,
        function: Callable[[], None],
        seconds: float,
        report: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._function, self._seconds, self._report = function, seconds, report
        self._last_line = ""
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="versions", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._end.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._end.wait(self._seconds):
            try:
                self._function()
            except Exception as error:
                # A folder that cannot be read now may be readable the next time.
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        line = f"cannot check for a newer version: {type(error).__name__}: {error}"
        line = " ".join(line.split())[:300]
        if line != self._last_line:
            self._last_line = line
            self._report(line)
