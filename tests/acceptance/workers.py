"""Workers under a parent, and who executes what."""

import contextlib

import psutil

from acceptance.system import Process, System, wait_for
from trellis.domain.runs import Ward

ALL = ["one", "two", "three"]


def children(worker: Process, *wards: Ward) -> list[psutil.Process]:
    """The processes that execute runs, of these wards; without any, those that execute whatever comes."""
    alive = psutil.Process(worker.popen.pid).children()
    return [child for child in alive if _argument(child) in (wards or [Ward.OPEN])]


def _argument(child: psutil.Process) -> str:
    """The last one. Empty: it has just died."""
    with contextlib.suppress(psutil.Error):
        return (child.cmdline() or [""])[-1]
    return ""


def start_workers(system: System, processes: int, **env: str) -> Process:
    """One `trellis worker` whose children are all ready."""
    worker = system.start("worker", TRELLIS_WORKER_PROCESSES=str(processes), **env)
    worker.wait_until(
        lambda: worker.said().count("worker.ready") == processes, what="ready with every process"
    )
    return worker


def holder(system: System, thread_id: str) -> int:
    """The process that executes the thread's run."""
    [(owner,)] = system.rows(
        "SELECT lease_owner FROM run WHERE thread_id = %s AND status = 'running'", thread_id
    )
    return int(owner.split(":")[1])


def crashes(system: System, thread_id: str) -> int:
    [(count,)] = system.rows("SELECT sum(crashes) FROM run WHERE thread_id = %s", thread_id)
    return int(count)


def assert_all_succeed(system: System, ids: list[str]) -> None:
    """Every accepted run succeeds in the end, and none was lost to a crash on the way."""
    count = (
        "SELECT count(*) FROM run"
        " WHERE run_id = ANY(%s::uuid[]) AND status = 'success' AND crashes = 0"
    )
    wait_for(lambda: system.rows(count, ids) == [(len(ids),)], what="success of every run")
