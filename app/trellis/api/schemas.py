"""The JSON of the API as types: requests are checked against them, /openapi.json is made from them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from trellis.api.texts import Id, Instant, Label, StatePart

Object = dict[str, Any]
Count = Annotated[int, Meta(ge=1, le=1000)]
Offset = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Order = Literal["asc", "desc"]
ThreadStatus = Literal["idle", "busy", "interrupted", "error"]
#: Ten years: more is a mistake, and far more does not fit a timestamp.
Minutes = Annotated[float, Meta(gt=0, le=5_256_000)]
Seconds = Annotated[float, Meta(ge=0, le=315_360_000)]
NodeNames = Literal["*"] | list[str]
#: Part of a key, of which Postgres indexes 2,700 bytes at most.
Namespace = Annotated[str, Meta(max_length=600)]

# Requests


class TtlConfig(Struct, kw_only=True):
    ttl: Minutes
    strategy: Literal["delete", "keep_latest"] = "delete"


class ThreadCreate(Struct, kw_only=True):
    thread_id: Id | None = None
    metadata: Object | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    ttl: TtlConfig | None = None
    supersteps: Annotated[list[Superstep], Meta(max_length=500)] | None = None


class ThreadPatch(Struct, kw_only=True):
    metadata: Object | None = None
    ttl: TtlConfig | None = None


class ThreadCount(Struct, kw_only=True):
    ids: Annotated[list[Id], Meta(max_length=1000)] | None = None
    metadata: Object | None = None
    values: Object | None = None
    status: ThreadStatus | None = None


class ThreadSearch(ThreadCount, kw_only=True):
    limit: Count = 10
    offset: Offset = 0
    sort_by: (
        Literal["thread_id", "status", "created_at", "updated_at", "state_updated_at"] | None
    ) = None
    sort_order: Order | None = None
    select: (
        list[
            Literal[
                "thread_id",
                "created_at",
                "updated_at",
                "state_updated_at",
                "metadata",
                "config",
                "status",
                "values",
                "error",
                "interrupts",
            ]
        ]
        | None
    ) = None
    extract: Annotated[dict[str, str], Meta(max_length=10)] | None = None


class ThreadPrune(Struct, kw_only=True):
    thread_ids: Annotated[list[Id], Meta(max_length=1000)]
    strategy: Literal["delete", "keep_latest"] = "delete"


class Config(Struct, kw_only=True):
    tags: list[str] | None = None
    recursion_limit: int | None = None
    configurable: Object | None = None
    metadata: Object | None = None
    run_name: str | None = None
    max_concurrency: int | None = None


class AssistantCreate(Struct, kw_only=True):
    graph_id: str
    assistant_id: Id | None = None
    config: Config | None = None
    context: Object | None = None
    metadata: Object | None = None
    if_exists: Literal["raise", "do_nothing"] | None = None
    name: str | None = None
    description: str | None = None


class AssistantPatch(Struct, kw_only=True):
    graph_id: str | None = None
    config: Config | None = None
    context: Object | None = None
    metadata: Object | None = None
    name: str | None = None
    description: str | UnsetType | None = UNSET


class AssistantVersionChange(Struct, kw_only=True):
    version: Annotated[int, Meta(ge=0, le=2**31 - 1)]


class AssistantVersionsSearch(Struct, kw_only=True):
    metadata: Object | None = None
    limit: Count = 10
    offset: Offset = 0


class AssistantCount(Struct, kw_only=True):
    metadata: Object | None = None
    graph_id: str | None = None
    name: str | None = None


class AssistantSearch(AssistantCount, kw_only=True):
    limit: Count = 10
    offset: Offset = 0
    sort_by: Literal["assistant_id", "created_at", "updated_at", "name", "graph_id"] | None = None
    sort_order: Order | None = None
    select: (
        list[
            Literal[
                "assistant_id",
                "graph_id",
                "name",
                "description",
                "config",
                "context",
                "created_at",
                "updated_at",
                "metadata",
                "version",
            ]
        ]
        | None
    ) = None


class CheckpointConfig(Struct, kw_only=True):
    thread_id: str | None = None
    checkpoint_ns: Namespace | None = None
    checkpoint_id: str | None = None
    checkpoint_map: Object | None = None


class StateAtCheckpoint(Struct, kw_only=True):
    checkpoint: CheckpointConfig
    subgraphs: bool | None = None
    select: list[StatePart] | None = None


class StateUpdate(Struct, kw_only=True):
    values: Object | list[Any] | None = None
    as_node: str | None = None
    checkpoint: CheckpointConfig | None = None
    checkpoint_id: str | None = None


class StatePatch(Struct, kw_only=True):
    metadata: Object


class HistoryRequest(Struct, kw_only=True):
    limit: Count = 1
    before: str | Object | None = None
    metadata: Object | None = None
    checkpoint: CheckpointConfig | None = None
    select: list[StatePart] | None = None


class Command(Struct, kw_only=True):
    update: Object | list[Any] | None = None
    resume: Any = UNSET
    goto: str | Object | list[Any] | None = None


class SuperstepUpdate(Struct, kw_only=True):
    values: Any = None
    command: Command | None = None
    as_node: str


class Superstep(Struct, kw_only=True):
    updates: Annotated[list[SuperstepUpdate], Meta(min_length=1, max_length=100)]


#: All of them are applied, or none.
Supersteps = Annotated[list[Superstep], Meta(min_length=1, max_length=500)]


class StateUpdates(Struct, kw_only=True):
    supersteps: Supersteps
    checkpoint: CheckpointConfig | None = None
    checkpoint_id: str | None = None


class StatelessRunCreate(Struct, kw_only=True):
    assistant_id: str
    input: Any = None
    command: Command | None = None
    config: Config | None = None
    context: Object | None = None
    metadata: Object | None = None
    stream_mode: str | list[str] | None = None
    stream_subgraphs: bool | None = None
    stream_resumable: bool | None = None
    interrupt_before: NodeNames | None = None
    interrupt_after: NodeNames | None = None
    durability: Literal["sync", "async", "exit"] | None = None
    checkpoint_during: bool | None = None
    after_seconds: Seconds | None = None
    on_completion: Literal["delete", "keep"] | None = None
    on_disconnect: Literal["continue", "cancel"] | None = None
    multitask_strategy: Literal["enqueue", "reject", "interrupt", "rollback"] | None = None
    if_not_exists: Literal["reject", "create"] | None = None
    webhook: str | None = None
    feedback_keys: list[str] | None = None
    langsmith_tracer: Object | None = None
    strict_resume: bool | None = None


class RunCreate(StatelessRunCreate, kw_only=True):
    checkpoint: CheckpointConfig | None = None
    checkpoint_id: str | None = None


#: All of them are accepted, or none.
RunBatch = Annotated[list[StatelessRunCreate], Meta(min_length=1, max_length=100)]


class RunsCancel(Struct, kw_only=True):
    status: Literal["pending", "running", "all"] | None = None
    thread_id: Id | None = None
    run_ids: Annotated[list[Id], Meta(min_length=1, max_length=1000)] | None = None


class Truncate(Struct, kw_only=True):
    runs: bool = False
    threads: bool = False
    assistants: bool = False
    store: bool = False
    checkpoints: bool = False
    checkpoint: bool = False  #: the same, as some clients spell it
    checkpointer: bool = False  #: likewise


#: Of as many labels as anybody may want.
Labels = Annotated[list[Label], Meta(max_length=100)]


class StorePut(Struct, kw_only=True):
    namespace: Labels
    key: str
    value: Object
    #: `true` is refused: false, or paths.
    index: bool | Annotated[list[str], Meta(max_length=100)] | None = None
    ttl: Minutes | UnsetType | None = UNSET


class StoreDelete(Struct, kw_only=True):
    namespace: Labels | None = None
    key: str


class StoreSearch(Struct, kw_only=True):
    namespace_prefix: Labels | None = None
    filter: Object | None = None
    limit: Count = 10
    offset: Offset = 0
    query: str | None = None
    refresh_ttl: bool | None = None


class StoreNamespaces(Struct, kw_only=True):
    prefix: Labels | None = None
    suffix: Labels | None = None
    max_depth: Annotated[int, Meta(ge=1, le=100)] | None = None
    limit: Count = 100
    offset: Offset = 0


# Responses


class Done(Struct, kw_only=True):
    ok: bool


class ErrorResponse(Struct, kw_only=True):
    detail: str


class Health(Struct, kw_only=True):
    ok: bool
    services: dict[str, Literal["ok", "unreachable"]]


class Info(Struct, kw_only=True):
    version: str
    langgraph_py_version: str
    flags: dict[str, bool]
    host: Object


class Assistant(Struct, kw_only=True):
    assistant_id: Id
    graph_id: str
    config: Object
    context: Object
    metadata: Object
    name: str
    created_at: Instant
    updated_at: Instant
    version: int
    description: str | None


class AssistantVersion(Struct, kw_only=True):
    assistant_id: Id
    version: int
    graph_id: str
    config: Object
    context: Object
    metadata: Object
    created_at: Instant
    name: str
    description: str | None


class Ttl(Struct, kw_only=True):
    strategy: Literal["delete", "keep_latest"]
    ttl_minutes: float
    expires_at: Instant | None


class Thread(Struct, kw_only=True, omit_defaults=True):
    thread_id: Id
    created_at: Instant
    updated_at: Instant
    state_updated_at: Instant
    metadata: Object
    status: ThreadStatus
    config: Object
    values: Any
    error: Object | None
    interrupts: dict[str, list[Object]]
    ttl: Ttl | None = None
    extracted: Object | None = None


class Pruned(Struct, kw_only=True):
    pruned_count: int


class Stored(Struct, kw_only=True):
    count: int
    bytes: int


class StoredVersions(Struct, kw_only=True):
    versions: int
    bytes: int


class StoredValues(Stored, kw_only=True):
    by_channel: dict[str, StoredVersions]


class ThreadStorage(Struct, kw_only=True):
    thread_id: Id
    total_bytes: int
    checkpoints: Stored
    channel_values: StoredValues
    pending_writes: Stored


class Run(Struct, kw_only=True):
    run_id: Id
    thread_id: Id
    assistant_id: Id
    metadata: Object
    status: Literal["pending", "running", "success", "error", "timeout", "interrupted"]
    kwargs: Object
    multitask_strategy: Literal["enqueue", "reject", "interrupt", "rollback"]
    created_at: Instant
    updated_at: Instant
    langsmith_session_name: str | None
    cancel_reason: str | None


class WebhookAttempt(Struct, kw_only=True):
    attempt: int
    at: Instant
    error: str | None


class WebhookDelivery(Struct, kw_only=True):
    url: str
    status: Literal["pending", "delivered", "given_up"]
    attempts: list[WebhookAttempt]
    next_attempt_at: Instant | None


class Task(Struct, kw_only=True):
    id: str
    name: str
    path: list[Any]
    error: str | None
    interrupts: list[Object]
    checkpoint: Object | None
    state: Object | None
    result: Any


class ThreadState(Struct, kw_only=True):
    values: Any
    next: list[str]
    tasks: list[Task]
    metadata: Object | None
    created_at: str | None
    checkpoint: Object | None
    parent_checkpoint: Object | None
    interrupts: list[Object]
    checkpoint_id: str | None
    parent_checkpoint_id: str | None


class StateUpdated(Struct, kw_only=True):
    checkpoint: Object
    configurable: Object
    checkpoint_id: str


class SubgraphSchemas(Struct, kw_only=True):
    input_schema: Object | None
    output_schema: Object | None
    state_schema: Object | None
    config_schema: Object | None
    context_schema: Object | None


class GraphSchemas(SubgraphSchemas, kw_only=True):
    graph_id: str


class Item(Struct, kw_only=True):
    namespace: list[str]
    key: str
    value: Object
    created_at: Instant
    updated_at: Instant


class FoundItem(Item, kw_only=True):
    score: float | None


class FoundItems(Struct, kw_only=True):
    items: list[FoundItem]


class Namespaces(Struct, kw_only=True):
    namespaces: list[list[str]]
