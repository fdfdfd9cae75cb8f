"""`langgraph dev` in an environment of its own: made on demand, started, and stopped."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import children
from benchmarks.children import StartFailed, responds
from benchmarks.scenarios import Side
from trellis.dev.process import any_port

PACKAGES = (
    "langgraph-cli[inmem]==0.4.40",
    "langgraph-api==0.16.7",
    "langgraph-runtime-inmem==0.36.7",
    "langgraph==1.2.22",
)
NAME = "langgraph dev 0.16.7"
#: It holds every run in memory and has been seen to take 22 GB; this stops it in time.
MEMORY_LIMIT_KB = 8_000_000
START_SECONDS = 90


def cache_folder() -> Path:
    """Return the folder that keeps the peer's environment between runs."""
    root = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(root) / "trellis-bench"


def environment() -> Path:
    """Install the peer if it is not there yet, and return its virtual environment."""
    folder = cache_folder() / NAME.replace(" ", "-")
    marker = folder / "installed"
    wanted = "\n".join(PACKAGES)
    if marker.exists() and marker.read_text() == wanted:
        return folder
    print(f"installing {NAME} into {folder} (once)", file=sys.stderr, flush=True)
    _must([sys.executable, "-m", "venv", "--clear", str(folder)])
    pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
    _must([*pip, *PACKAGES])
    marker.write_text(wanted)
    return folder


def _must(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StartFailed(
            f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
        )


@contextmanager
def running(graphs: Path, *, jobs: int) -> Iterator[Side]:
    """Serve the graphs with `langgraph dev` until the block ends."""
    folder = environment()
    with tempfile.TemporaryDirectory(prefix="trellis-bench-peer-") as scratch:
        # It writes its state beside the graphs; the copy keeps it out of the repository.
        project = Path(scratch) / "graphs"
        shutil.copytree(graphs, project, ignore=shutil.ignore_patterns("__pycache__"))
        port = any_port()
        command = _command(folder, port, jobs)
        with children.running("peer", command, env=_environ(folder), folder=project) as child:
            url = f"http://127.0.0.1:{port}"
            children.wait_until(lambda: responds(f"{url}/ok"), child, seconds=START_SECONDS)
            yield Side(
                name=NAME,
                url=url,
                roots={"server": [child.pid]},
                start={"web answers /ok, s": child.age()},
                about={"peer": f"{NAME}, in memory, {jobs} jobs in one process"},
            )


def _command(folder: Path, port: int, jobs: int) -> list[str]:
    return [
        *("sh", "-c", f'ulimit -v {MEMORY_LIMIT_KB} && exec "$@"', "sh"),
        str(folder / "bin" / "langgraph"),
        "dev",
        "--no-browser",
        "--no-reload",
        "--allow-blocking",
        *("--n-jobs-per-worker", str(jobs)),
        *("--host", "127.0.0.1", "--port", str(port)),
    ]


def _environ(folder: Path) -> dict[str, str]:
    keep = ("HOME", "LANG", "LC_ALL", "TMPDIR")
    return {
        **{name: os.environ[name] for name in keep if name in os.environ},
        "PATH": f"{folder / 'bin'}:/usr/local/bin:/usr/bin:/bin",
        "LANGSMITH_TRACING": "false",
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
    }
