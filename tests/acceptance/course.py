"""Hold the nodes of the test graphs where a test wants them, and read the trace they leave."""

from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acceptance.system import Answer, System, wait_for


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


@dataclass
class Held:
    """A run that waits in the middle of its course, and the client that waits for it."""

    course: Course
    thread_id: str
    client: Future[Answer] = field(repr=False)

    def count(self, note: str) -> int:
        return self.course.journal().count(note)


def hold(
    system: System, clients: Executor, folder: Path, *, verb: str = "wait", **fields: Any
) -> Held:
    """Create a run of `steps`, and return when it stands before its second step."""
    course = Course(folder)
    thread_id = system.new_thread()
    body = {"assistant_id": "steps", "input": course.input(hold=("two",)), **fields}
    client = clients.submit(system.request, "POST", f"/threads/{thread_id}/runs/{verb}", body)
    wait_for(lambda: ">two" in course.journal() or client.done(), what="the second step")
    assert not client.done(), client.result()
    return Held(course, thread_id, client)
