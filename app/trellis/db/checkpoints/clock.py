"""
Checkpoint ids that go up on their thread, whatever the host's clock says.

LangGraph makes an id of the wall clock, and the newest checkpoint of a thread is the one with the greatest id. A
thread's runs are executed on many hosts: after one on a host whose clock is fast, the checkpoints of the others would
count as older, and be lost. LangGraph's ids never go back within a process; so what a process has read counts as made
by it (a Lamport clock).
"""

from __future__ import annotations

from uuid import UUID

from langgraph.checkpoint.base import id as ids


def observe(checkpoint_id: str) -> None:
    """Have this process make greater ids from now on. What is no id of LangGraph's changes nothing."""
    try:
        seen = UUID(checkpoint_id)
    except ValueError:
        return
    if seen.version != 6:
        return
    time = ids.UUID(int=seen.int).time
    if ids._last_v6_timestamp is None or time > ids._last_v6_timestamp:
        ids._last_v6_timestamp = time  # type: ignore[assignment]  # declared by its first value, None
