"""The newest version in a model's folder, looked for again and again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from tf_mtl_privacy.errors import RunError, UsageError
from tf_mtl_privacy.export.version_folder import no_version, versions
from tf_mtl_privacy.serving.server.errors import Code, Refusal
from tf_mtl_privacy.serving.server.model import Model


class Versions:
    """Holds the newest version that could be loaded.

    Args:
        folder: the model's folder, with a folder for each version.
        name: the model's name.
        prepare: called with a version before it is served, to warm it up.
        tell: called with a line when a version was loaded or could not be.

    Raises:
        UsageError: the folder has no version.
        RunError: the newest version cannot be loaded.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        prepare: Callable[[Model], object] = lambda model: None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder, self.name = folder, name
        self._prepare, self._tell = prepare, tell
        found = versions(folder)
        if not found:
            raise UsageError(no_version(folder))
        self._refused: set[int] = set()
        self._newest = self._load(found[-1])

    @property
    def newest(self) -> Model:
        """The version that is served."""
        return self._newest

    def find(self, name: str, version: int | None) -> Model:
        """The version that a request asks for; the newest for None.

        Raises:
            Refusal: it is not served.
        """
        model = self._newest
        if name != self.name or version not in (None, model.version):
            wanted = name[:60] + ("" if version is None else f" version {version}")
            raise Refusal(
                Code.NOT_FOUND,
                f"Servable not found for request: {wanted!r}; there is {self.name} version "
                f"{model.version}",
            )
        return model

    def look(self) -> None:
        """Loads a newer version where there is one; one that cannot be loaded is left alone."""
        newer = [
            number
            for number in versions(self.folder)
            if number > self._newest.version and number not in self._refused
        ]
        if newer:
            try:
                self._newest = self._load(newer[-1])
            except RunError as error:
                self._refused.add(newer[-1])
                self._tell(f"kept version {self._newest.version}: {error}")

    def _load(self, number: int) -> Model:
        folder = self.folder / str(number)
        try:
            model = Model(folder)
            self._prepare(model)
        except RunError:
            raise
        except Exception as error:
            # What a damaged file can raise, in it or in its warm-up requests, has no end.
            lines = str(error).strip().splitlines() or [""]
            reason = f"{type(error).__name__}: {lines[0][:200]}"
            raise RunError(f"{folder} cannot be served: {reason}") from error
        self._tell(f"serving {self.name} version {number}")
        return model


class Poller:
    """Calls `look` every `seconds` in a thread of its own, until closed.

    Args:
        look: may fail; it is called again all the same.
        seconds: between two calls.
        tell: called with a line about a failure, once where the same comes again.
    """

    def __init__(
        self,
        look: Callable[[], None],
        seconds: float,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._look, self._seconds, self._tell, self._told = look, seconds, tell, ""
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
                self._look()
            except Exception as error:
                # A folder that cannot be read now may be readable the next time.
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        line = f"cannot look for a newer version: {type(error).__name__}: {error}"
        line = " ".join(line.split())[:300]
        if line != self._told:
            self._told = line
            self._tell(line)
