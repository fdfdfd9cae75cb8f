"""Hold the nodes of the test graphs where a test wants them, and read the trace they leave."""

from pathlib import Path
from typing import Any

from acceptance.system import wait_for


class Course:
    """The course that a run of the graph `steps` takes: where it is, and where it is held."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def input(self, *, hold: tuple[str, ...] = (), **values: Any) -> dict[str, Any]:
        return {"folder": str(self.folder), "hold": list(hold), **values}

    def journal(self) -> list[str]:
        """What the nodes noted: `name>step` when they began, `name<step` when they were done."""
        file = self.folder / "journal"
        return file.read_text().splitlines() if file.exists() else []

    def wait_until_notes(self, line: str, *, times: int = 1) -> None:
        wait_for(lambda: self.journal().count(line) >= times, what=f"the note {line!r}")

    def open(self, name: str) -> None:
        """Let the node go on that is held there."""
        (self.folder / name).touch()
