"""Whatever a client sends: the codes that are promised, never a 500, and nothing written."""

import uuid
from typing import Any

import orjson
import pytest

from acceptance.system import Answer, System

UNKNOWN = "0190aaaa-0000-7000-8000-000000000000"
RUN = {"assistant_id": "compiled", "input": {"said": []}}
DEEP = b'{"assistant_id":"compiled","input":' + b"[" * 5000 + b"]" * 5000 + b"}"
NUL = b'{"assistant_id":"compiled","input":{"said":["a\\u0000b"]}}'
NUL_KEY = b'{"assistant_id":"compiled","metadata":{"a\\u0000b":1}}'
LONE_SURROGATE = b'{"assistant_id":"compiled","input":{"said":["\\ud800"]}}'
NO_UTF8 = b'{"assistant_id":"compiled","input":"\xff\xfe"}'


def run(**fields: Any) -> dict[str, Any]:
    return {**RUN, **fields}


#: What is wrong with the body of a run → status, and a part of the message.
BODIES: dict[str, tuple[Any, int, str]] = {
    "nothing": (b"", 422, "Invalid JSON in request body"),
    "no JSON": (b"{", 422, "Invalid JSON in request body"),
    "NaN": (b'{"assistant_id":"compiled","input":NaN}', 422, "Invalid JSON in request body"),
    "too deep": (DEEP, 422, "Invalid JSON in request body"),
    "NUL": (NUL, 422, "U+0000"),
    "NUL in a key": (NUL_KEY, 422, "U+0000"),
    "a lone surrogate": (LONE_SURROGATE, 422, "surrogate"),
    "no UTF-8": (NO_UTF8, 422, "Invalid JSON in request body"),
    "a list": ([], 422, ""),
    "a number": (1, 422, ""),
    "null": (b"null", 422, ""),
    "no assistant": ({"input": {}}, 422, "assistant_id"),
    "assistant a number": (run(assistant_id=5), 422, "assistant_id"),
    "assistant null": (run(assistant_id=None), 422, "assistant_id"),
    "unknown graph": (run(assistant_id="nope"), 422, "One of the registered graphs: compiled"),
    "unknown assistant": (run(assistant_id=UNKNOWN), 404, "Thread or assistant not found."),
    "config a text": (run(config="x"), 422, "config"),
    "configurable a list": (run(config={"configurable": []}), 422, "configurable"),
    "tags a text": (run(config={"tags": "a"}), 422, "tags"),
    "recursion limit a text": (run(config={"recursion_limit": "5"}), 422, "recursion_limit"),
    "context and configurable": (
        run(context={"a": 1}, config={"configurable": {"b": 1}}),
        400,
        "Cannot specify both configurable and context",
    ),
    "metadata a list": (run(metadata=[]), 422, "metadata"),
    "unknown stream mode": (run(stream_mode="bogus"), 422, "bogus"),
    "stream modes of numbers": (run(stream_mode=[1]), 422, "stream_mode"),
    "subgraphs a text": (run(stream_subgraphs="yes"), 422, "stream_subgraphs"),
    "unknown durability": (run(durability="never"), 422, "durability"),
    "unknown strategy": (run(multitask_strategy="bogus"), 422, "multitask_strategy"),
    "interrupt before a number": (run(interrupt_before=3), 422, "interrupt_before"),
    "after a text": (run(after_seconds="soon"), 422, "after_seconds"),
    "after a negative time": (run(after_seconds=-1), 422, "after_seconds"),
    "after all time": (run(after_seconds=1e300), 422, "after_seconds"),
    "command a text": (run(command="resume"), 422, "command"),
    "update a number": (run(command={"update": 1}), 422, "update"),
    "update no pairs": (run(command={"update": [1]}), 422, "update"),
    "goto mixed": (run(command={"goto": ["say", {"node": "say", "input": {}}]}), 422, "goto"),
    "goto a number": (run(command={"goto": 1}), 422, "goto"),
    "checkpoint a text": (run(checkpoint="x"), 422, "checkpoint"),
    "checkpoint id a number": (run(checkpoint_id=1), 422, "checkpoint_id"),
    "unknown if_not_exists": (run(if_not_exists="maybe"), 422, "if_not_exists"),
    "on_completion of a thread": (run(on_completion="delete"), 422, "on_completion"),
    "unknown on_completion": (run(on_completion="burn"), 422, "on_completion"),
}
STATELESS = {
    "on_completion of a thread",
    "unknown if_not_exists",
    "checkpoint a text",
    "checkpoint id a number",
}


def check(answer: Answer, status: int, message: str) -> None:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    detail = answer.json()
    assert [*detail] == ["detail"]
    assert message in detail["detail"]


class Rows:
    """Threads, runs and assistants that a test must not add to."""

    def __init__(self, server: System) -> None:
        self._server = server
        self._before = self._ids()

    def _ids(self) -> set[tuple[str, str]]:
        return {
            (table, row[0])
            for table in ("thread", "run", "assistant")
            for row in self._server.rows(f"SELECT {table}_id::text FROM {table}")
        }

    def added(self) -> set[tuple[str, str]]:
        # Finished temporary threads may be pruned meanwhile, so rows may only become fewer.
        return self._ids() - self._before


@pytest.fixture
def rows(server: System, thread_id: str) -> Rows:
    return Rows(server)


def thread_row(server: System, thread_id: str) -> Any:
    return server.rows("SELECT * FROM thread WHERE thread_id = %s", thread_id)


@pytest.mark.parametrize("verb", ["", "/wait", "/stream"])
@pytest.mark.parametrize("wrong", BODIES)
def test_create_run(server: System, thread_id: str, rows: Rows, verb: str, wrong: str) -> None:
    body, status, message = BODIES[wrong]
    before = thread_row(server, thread_id)

    answer = server.request("POST", f"/threads/{thread_id}/runs{verb}", body)

    check(answer, status, message)
    assert rows.added() == set()
    assert thread_row(server, thread_id) == before


@pytest.mark.parametrize("wrong", sorted(BODIES.keys() - STATELESS))
def test_create_run__stateless(server: System, rows: Rows, wrong: str) -> None:
    body, status, message = BODIES[wrong]

    check(server.request("POST", "/runs", body), status, message)
    assert rows.added() == set()


@pytest.mark.parametrize("wrong", sorted(BODIES.keys() - STATELESS - {"nothing", "no JSON"}))
def test_create_batch__all_or_none(server: System, rows: Rows, wrong: str) -> None:
    body, status, _ = BODIES[wrong]
    raw = body if isinstance(body, bytes) else orjson.dumps(body)

    answer = server.request("POST", "/runs/batch", b"[%b,%b]" % (orjson.dumps(RUN), raw))

    check(answer, status, "")
    assert rows.added() == set()


@pytest.mark.parametrize("body", [[], {}, RUN, [RUN] * 1001, [1], [[]]])
def test_create_batch__of_nothing_or_too_much(server: System, rows: Rows, body: Any) -> None:
    check(server.request("POST", "/runs/batch", body), 422, "")
    assert rows.added() == set()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"[]", 422),
        (b'{"thread_id":5}', 422),
        (b'{"thread_id":"x"}', 422),
        (b'{"metadata":1}', 422),
        (b'{"metadata":{"a":"\\u0000"}}', 422),
        (b'{"metadata":{"a":"\\udfff"}}', 422),
        (b'{"if_exists":"maybe"}', 422),
        (b'{"ttl":5}', 422),
        (b'{"ttl":{"ttl":-1}}', 422),
    ],
)
def test_create_thread(server: System, rows: Rows, body: bytes, status: int) -> None:
    check(server.request("POST", "/threads", body), status, "")
    assert rows.added() == set()


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("GET", "/threads/x", "Invalid thread ID: must be a UUID"),
        ("GET", "/threads/x/state", "Invalid thread ID: must be a UUID"),
        ("GET", "/threads/x/history", "Invalid thread ID: must be a UUID"),
        ("POST", "/threads/x/runs", "Invalid thread ID: must be a UUID"),
        ("GET", f"/threads/{UNKNOWN}/runs/x", "Invalid run ID: must be a UUID"),
        ("GET", f"/threads/{UNKNOWN}/runs/x/join", "Invalid run ID: must be a UUID"),
        ("GET", f"/threads/{UNKNOWN}/runs/x/stream", "Invalid run ID: must be a UUID"),
        ("GET", "/runs/x", "Invalid run ID: must be a UUID"),
        ("GET", "/assistants/x", "Invalid assistant ID: must be a UUID"),
    ],
)
def test_ids_that_are_none(server: System, method: str, path: str, detail: str) -> None:
    body = RUN if method == "POST" else None

    answer = server.request(method, path, body if body else b"")

    assert (answer.status, answer.json()) == (422, {"detail": detail})


@pytest.mark.parametrize(
    ("method", "path", "detail"),
    [
        ("GET", f"/threads/{UNKNOWN}", f"Thread with ID {UNKNOWN} not found"),
        ("GET", f"/threads/{UNKNOWN}/state", f"Thread with ID {UNKNOWN} not found"),
        ("GET", f"/threads/{UNKNOWN}/runs", f"Thread with ID {UNKNOWN} not found"),
        ("POST", f"/threads/{UNKNOWN}/runs", "Thread or assistant not found."),
        ("POST", f"/threads/{UNKNOWN}/runs/wait", "Thread or assistant not found."),
        ("POST", f"/threads/{UNKNOWN}/runs/stream", "Thread or assistant not found."),
        ("GET", f"/runs/{UNKNOWN}", "Not Found"),
        ("GET", f"/assistants/{UNKNOWN}", "Not Found"),
        ("GET", "/no/such/route", "Not Found"),
    ],
)
def test_things_that_are_missing(
    server: System, rows: Rows, method: str, path: str, detail: str
) -> None:
    answer = server.request(method, path, RUN if method == "POST" else b"")

    assert (answer.status, answer.json()) == (404, {"detail": detail})
    assert rows.added() == set()


def test_method_that_is_wrong(server: System) -> None:
    answer = server.request("PUT", "/threads", b"{}")

    assert answer.status == 405
    assert "POST" in answer.headers["allow"]
    assert answer.json() == {"detail": "Method Not Allowed"}


@pytest.mark.parametrize(
    "query",
    [
        "runs?limit=x",
        "runs?limit=0",
        "runs?limit=1001",
        "runs?offset=-1",
        "runs?offset=9e9",
        "runs?select=bogus",
        "history?limit=0",
        "history?limit=1001",
        "state?select=bogus",
        "state?subgraphs=maybe",
        "runs?status=%00",
    ],
)
def test_queries_that_are_wrong(server: System, thread_id: str, query: str) -> None:
    check(server.request("GET", f"/threads/{thread_id}/{query}", b""), 422, "")


@pytest.mark.parametrize(
    "query",
    [
        "runs?status=bogus",
        "runs?limit=&offset=",
        "runs?bogus=1",
        "state/notuuid",
        "state/" + "x" * 500,
    ],
)
def test_queries_that_only_find_nothing(server: System, thread_id: str, query: str) -> None:
    assert server.request("GET", f"/threads/{thread_id}/{query}").status == 200


def test_fields_that_are_unknown_are_ignored(server: System, thread_id: str) -> None:
    body = run(bogus_field=1, ttl=None)

    assert server.post(f"/threads/{thread_id}/runs/wait", body) == {"said": ["compiled"]}


def test_body_that_is_too_large(server: System, thread_id: str, rows: Rows) -> None:
    body = run(input="x" * (11 * 1024 * 1024))

    check(server.request("POST", f"/threads/{thread_id}/runs", body), 413, "")
    assert rows.added() == set()


def test_input_that_is_odd_is_the_graphs_business(server: System, thread_id: str) -> None:
    """What is wrong for the graph alone is an error of the run, not of the request."""
    for odd in (5, "text", ["a"], {"said": 5}):
        answer = server.request("POST", f"/threads/{thread_id}/runs/wait", run(input=odd))
        assert answer.status == 200, answer
        assert [*answer.json()] == ["__error__"], (odd, answer.body)


def test_path_with_a_nul(server: System) -> None:
    assert server.request("GET", f"/threads/{uuid.uuid4()}%00").status == 422
