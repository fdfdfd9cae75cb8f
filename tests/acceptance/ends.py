"""How runs end, as a client sees it."""

from typing import Any

#: A signal takes milliseconds, a heartbeat up to five seconds: what is faster than this was signalled.
PROMPTLY = 2.5


def status(client: Any, thread_id: str, run_id: str) -> str:
    found: str = client.runs.get(thread_id, run_id)["status"]
    return found


def is_over(client: Any, thread_id: str, run_id: str) -> bool:
    return status(client, thread_id, run_id) not in ("pending", "running")


def thread_of(client: Any, thread_id: str) -> tuple[str, Any]:
    thread = client.threads.get(thread_id)
    return thread["status"], thread["error"]
