"""What a client asks for when it creates a run, after parsing and before anything is looked up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from trellis.domain.access import Condition

#: The key of `configurable` that tells a worker to stream what protocol v2 needs.
EVENT_STREAMING = "__event_streaming_v2"


@dataclass(frozen=True, kw_only=True, slots=True)
class NewRun:
    """A request to run an assistant. Every value is checked; nothing is looked up yet."""

    assistant_id: str  #: a graph's name, or an assistant's UUID
    input: Any = None
    command: Mapping[str, Any] | None = None  #: update, resume, goto: only the keys that were sent
    config: Mapping[str, Any] = field(default_factory=dict)  #: only the keys that were sent
    context: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    stream_mode: Sequence[str] = ("values",)
    stream_subgraphs: bool = False
    stream_resumable: bool = False
    interrupt_before: Literal["*"] | Sequence[str] | None = None
    interrupt_after: Literal["*"] | Sequence[str] | None = None
    checkpoint: Mapping[str, Any] | None = None  #: checkpoint_id, checkpoint_ns, checkpoint_map
    durability: str = "async"
    multitask_strategy: str = "enqueue"
    if_not_exists: str = "reject"
    after_seconds: float = 0.0
    on_disconnect: str = (
        "continue"  #: what becomes of the run when the client that created it hangs up
    )
    on_completion: str = "delete"  #: what becomes of a stateless run's thread
    webhook: str | None = None
    feedback_keys: Sequence[str] | None = None
    strict_resume: bool = False  #: an answer to a question that does not wait fails the run
    headers: Mapping[str, str] = field(default_factory=dict)  #: those allowed into `configurable`
    user: Mapping[str, Any] | None = None  #: who asks, as JSON
    allowed: Condition | None = None  #: what the metadata of a thread that is there must meet
    stamp: Mapping[str, Any] = field(default_factory=dict)  #: metadata of a thread made for the run
    request_id: str = ""  #: becomes `configurable.langgraph_request_id`
    thread_metadata: Mapping[str, Any] = field(default_factory=dict)  #: for a thread made for it
    priority: int | None = None  #: of its thread, if that has none yet
    cron_id: str | None = None  #: becomes `configurable.cron_id`
    event_streaming: bool = False  #: started by a command of protocol v2
