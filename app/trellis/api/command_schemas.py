"""The commands of protocol v2 as types."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trellis.api.schemas import Config, Count, Object
from trellis.api.texts import Id

#: Where in the tree of graphs: one segment per level, none for the root.
Place = Annotated[list[str], Meta(max_length=100)]

# What is sent


def respell(params: Object) -> None:
    """Bring what clients spell one way or both to one: that of the other routes, which handlers know."""
    if (given := params.pop("multitaskStrategy", None)) is not None:
        params["multitask_strategy"] = given


class ProtocolCommand(Struct, kw_only=True):
    id: Annotated[int, Meta(ge=0)]
    method: str
    params: Object = {}


class EventStreamRequest(Struct, kw_only=True):
    channels: Annotated[list[str], Meta(min_length=1, max_length=1000)]
    namespaces: Annotated[list[Place], Meta(max_length=1000)] | None = None
    depth: Count | None = None
    since: Count | None = None


class RunStart(Struct, kw_only=True):
    assistant_id: str
    input: Any = None
    config: Config | None = None
    metadata: Object | None = None
    langsmith_tracer: Object | None = None
    multitask_strategy: Literal["enqueue", "reject", "interrupt", "rollback"] | None = None


class Answer(Struct, kw_only=True):
    interrupt_id: str
    response: Any
    namespace: Place = []


class InputRespond(Struct, kw_only=True):
    responses: Annotated[list[Answer], Meta(min_length=1, max_length=1000)]
    update: Object | list[Any] | None = None
    goto: str | Object | list[Any] | None = None
    config: Config | None = None
    metadata: Object | None = None
    strict_resume: bool | None = None


class InputMessage(Struct, kw_only=True):
    role: Literal["user", "system"]
    content: str
    name: str | UnsetType = UNSET


class InputInject(Struct, kw_only=True):
    message: InputMessage
    namespace: Place = []


class StateGet(Struct, kw_only=True):
    namespace: Place = []
    keys: list[str] | None = None


class StateListCheckpoints(Struct, kw_only=True):
    namespace: Place = []
    limit: Count = 10
    before: str | None = None


class StateFork(Struct, kw_only=True):
    checkpoint_id: str
    input: Any = None
    config: Config | None = None


class AgentGetTree(Struct, kw_only=True):
    run_id: Id | None = None


# What is answered


class ProtocolMeta(Struct, kw_only=True):
    applied_through_seq: int


class ProtocolSuccess(Struct, kw_only=True, tag_field="type", tag="success"):
    id: int
    result: Object
    meta: ProtocolMeta


class ProtocolError(Struct, kw_only=True, tag_field="type", tag="error"):
    id: Any
    error: str
    message: str
