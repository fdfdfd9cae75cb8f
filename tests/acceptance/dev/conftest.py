"""`trellis dev` as a real process."""

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from trellis.dev import instance
from trellis.dev.instance import Instance
from trellis.dev.process import kill_session, poll_until

READY_SECONDS = 60.0
STOP_SECONDS = 30.0

#: Must not reach the command from the shell that runs the tests.
FOREIGN = ("DATABASE_URL", "DATABASE_URI", "POSTGRES_URI", "REDIS_URL", "REDIS_URI", "PORT")

#: Each process that shares the tests has its own: another's server must not take the port of one that restarts.
PORT = 20240 + 40 * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
#: Of two --port the last one counts.
COMMAND = (sys.executable, "-P", "-m", "trellis.cli", "dev", "--port", str(PORT))

GRAPH = """
    import asyncio

    from langgraph.graph import START, MessagesState, StateGraph


    async def answer(state: MessagesState):
        if state["messages"][-1].content == "sleep":
            await asyncio.sleep(600)
        return {"messages": [("ai", "first")]}


    graph = StateGraph(MessagesState).add_node(answer).add_edge(START, "answer").compile()
"""


@dataclass
class Dev:
    """A `trellis dev` that was started, and what it printed."""

    process: subprocess.Popen[bytes]
    data_dir: Path
    output: Path

    def said(self) -> str:
        return self.output.read_text()

    def instance(self) -> Instance:
        """What it published, once it is up."""
        found = instance.wait_until_running(
            self.data_dir, seconds=READY_SECONDS, alive=lambda: self.process.poll() is None
        )
        assert found is not None, self.said()
        return found

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def says(self, text: str) -> bool:
        """Whether it prints the text in time."""
        return poll_until(lambda: text in self.said(), seconds=READY_SECONDS)

    def ends(self) -> int:
        """Its exit code."""
        return self.process.wait(STOP_SECONDS)

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.ends()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A project of a user's, in a folder that `nobody` can reach."""
    with tempfile.TemporaryDirectory(prefix="trellis-dev-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        (folder / "langgraph.json").write_text(
            '{"dependencies": ["."], "graphs": {"agent": "./graph.py:graph"}}'
        )
        (folder / "graph.py").write_text(textwrap.dedent(GRAPH))
        yield folder


@pytest.fixture(scope="module")
def start(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Dev]]:
    """Start `trellis dev` in the project; it is killed after the module's tests."""
    started: list[Dev] = []

    def call(*options: str, env: dict[str, str] | None = None, data: str = ".trellis") -> Dev:
        output = tmp_path_factory.mktemp("dev") / "output"
        clean = {key: value for key, value in os.environ.items() if key not in FOREIGN}
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*COMMAND, "--data-dir", data, *options],
                cwd=folder,
                env=clean | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        started.append(Dev(process=process, data_dir=folder / data, output=output))
        return started[-1]

    yield call
    for dev in started:
        kill_session(dev.process)


@pytest.fixture
def ask() -> Callable[[str], Any]:
    """Ask the project's graph, and return what it says."""

    def call(url: str) -> Any:
        from langgraph_sdk import get_sync_client

        question: dict[str, Any] = {"messages": [{"role": "user", "content": "?"}]}
        with get_sync_client(url=url) as client:
            values: Any = client.runs.wait(None, "agent", input=question)
        return values["messages"][-1]["content"]

    return call
