"""Runs that commands of protocol v2 start: what they do, and what their logs say in the words of the protocol."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest

from acceptance.course import Course
from acceptance.sse import frames
from acceptance.system import System, wait_for
from trellis.protocol.translate import Translator
from trellis.stream import sse
from trellis.stream.entries import End, Event

HI = {"messages": [("user", "hi")]}
ANSWER = "hello there"


class Told(NamedTuple):
    method: str
    namespace: tuple[str, ...]
    data: Any


_ids = itertools.count(1)


def command(system: System, thread_id: str, method: str, **params: Any) -> Any:
    """Send a command to a thread, and return its result."""
    sent = {"id": next(_ids), "method": method, "params": params}
    answer = system.post(f"/threads/{thread_id}/commands", sent)
    assert answer["type"] == "success", answer
    return answer["result"]


def log_of(system: System, thread_id: str, run_id: str) -> list[tuple[str, Any, str | None]]:
    """The log of a run from its begin to its end."""
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    return frames(system.request("GET", path, headers={"Last-Event-ID": "-1"}).body)


def events_of(
    system: System, thread_id: str, run_id: str, log: list[tuple[str, Any, str | None]]
) -> list[Told]:
    """A run's log in the words of the protocol."""
    run = system.get(f"/threads/{thread_id}/runs/{run_id}")
    translator = Translator(run_id, run["kwargs"]["config"]["configurable"]["graph_id"])
    items: list[Any] = [
        Event(str(entry_id).encode(), name, sse.frame(name, json.dumps(data).encode()), 1, n)
        for n, (name, data, entry_id) in enumerate(log, 1)
    ]
    found = [e for item in [*items, End(run["status"], None)] for e in translator.feed(item)]
    assert len({each.event_id for each in found}) == len(found)
    return [Told(each.method, each.namespace, json.loads(each.data)) for each in found]


@pytest.fixture
def send(server: System, thread_id: str) -> Callable[..., Any]:
    """Send a command to the thread, and return its result."""
    return partial(command, server, thread_id)


@pytest.fixture
def events(server: System, thread_id: str) -> Callable[[str], list[Told]]:
    """The events of a run from its begin to its end."""
    return lambda run_id: events_of(server, thread_id, run_id, log_of(server, thread_id, run_id))


def of(events: list[Told], *methods: str) -> list[Told]:
    return [each for each in events if each.method in methods]


def test_messages(send: Callable[..., Any], events: Callable[[str], list[Told]]) -> None:
    run_id = send("run.start", assistant_id="chat", input=HI)["run_id"]

    told = events(run_id)

    streamed, whole = _messages(told)
    assert [each["event"] for each in streamed[:2]] == ["message-start", "content-block-start"]
    assert streamed[0]["role"] == "ai"
    deltas = [each["delta"] for each in streamed if each["event"] == "content-block-delta"]
    assert deltas == [{"type": "text-delta", "text": letter} for letter in ANSWER]
    assert streamed[-2]["content"] == {"type": "text", "text": ANSWER}
    assert streamed[-1]["event"] == "message-finish"
    assert (whole[0]["id"], whole[-2]["content"]["text"]) == ("signature", "yours, the graph")
    states = of(told, "values")
    [human, message, _] = states[-1].data["messages"]
    assert list(human) == ["type", "content", "id"]
    assert message["id"] == streamed[0]["id"]
    assert message["content"][0]["text"] == ANSWER
    assert message["response_metadata"]["output_version"] == "v1"


def _messages(events: list[Told]) -> list[list[Any]]:
    """The events of each message."""
    found: list[list[Any]] = []
    for each in of(events, "messages"):
        if each.data["event"] == "message-start":
            found.append([])
        found[-1].append(each.data)
    return found


def test_order(send: Callable[..., Any], events: Callable[[str], list[Told]]) -> None:
    run_id = send("run.start", assistant_id="hitl", input={"value": "q"})["run_id"]

    told = events(run_id)

    assert [(each.method, each.data.get("event")) for each in of(told, "lifecycle")] == [
        ("lifecycle", "running"),
        ("lifecycle", "interrupted"),
    ]
    methods = [each.method for each in of(told, "values", "checkpoints", "input.requested")]
    assert methods == [
        *["checkpoints"] * 2,
        "values",
        *["checkpoints", "values"],
        *["values", "input.requested"],
    ]
    assert (told[0].method, told[-1].method) == ("lifecycle", "lifecycle")
    [question] = of(told, "input.requested")
    assert question.data["payload"] == {"question": "approve?", "value": "q"}


def test_checkpoints__are_those_of_the_states_behind_them(
    server: System,
    thread_id: str,
    send: Callable[..., Any],
    events: Callable[[str], list[Told]],
    course: Course,
) -> None:
    run_id = send("run.start", assistant_id="steps", input=course.input())["run_id"]

    told = of(events(run_id), "values", "checkpoints")

    history = server.get(f"/threads/{thread_id}/history")
    log_of = {each["checkpoint"]["checkpoint_id"]: each["values"]["log"] for each in history}
    pairs = [
        (checkpoint.data["id"], state.data["log"])
        for checkpoint, state in itertools.pairwise(told)
        if (checkpoint.method, state.method) == ("checkpoints", "values")
    ]
    assert len(pairs) == 4
    assert [log_of[checkpoint_id] for checkpoint_id, _ in pairs] == [log for _, log in pairs]


def test_answers(
    server: System,
    thread_id: str,
    send: Callable[..., Any],
    events: Callable[[str], list[Told]],
) -> None:
    run_id = send("run.start", assistant_id="hitl", input={"value": "q"})["run_id"]
    [question] = of(events(run_id), "input.requested")

    send(
        "input.respond",
        namespace=[],
        interrupt_id=question.data["interrupt_id"],
        response="yes",
        update={"log": ["by update"]},
    )

    run = server.get(f"/threads/{thread_id}/runs?limit=1")[0]
    told = events(run["run_id"])
    assert told[-1].data == {"event": "completed", "graph_name": "hitl"}
    assert told[1].method == "input.answered"
    assert told[1].data == {"interrupt_ids": [question.data["interrupt_id"]]}
    state = of(told, "values")[-1].data
    assert (state["answer"], state["log"]) == ("yes", ["prepare", "by update", "ask", "finish"])


def test_answers__as_the_input_of_the_next_run(
    server: System, thread_id: str, send: Callable[..., Any], events: Callable[[str], list[Told]]
) -> None:
    events(send("run.start", assistant_id="hitl", input={"value": "q"})["run_id"])

    run_id = send("run.start", assistant_id="hitl", input={"value": "r"})["run_id"]

    assert of(events(run_id), "values")[-1].data["answer"] == {"value": "r"}


def test_answers__many(
    server: System, thread_id: str, send: Callable[..., Any], events: Callable[[str], list[Told]]
) -> None:
    told = events(send("run.start", assistant_id="parallel_questions", input={})["run_id"])
    ids = {each.data["payload"]: each.data["interrupt_id"] for each in of(told, "input.requested")}

    send(
        "input.respond",
        responses=[
            {"namespace": [], "interrupt_id": ids["left?"], "response": "l"},
            {"namespace": [], "interrupt_id": ids["right?"], "response": "r"},
        ],
    )

    run = server.get(f"/threads/{thread_id}/runs?limit=1")[0]
    told = events(run["run_id"])
    [answered] = of(told, "input.answered")
    assert answered.data == {"interrupt_ids": [ids["left?"], ids["right?"]]}
    assert sorted(of(told, "values")[-1].data["log"]) == ["left=l", "right=r"]


def test_a_question_in_a_subgraph(
    send: Callable[..., Any], events: Callable[[str], list[Told]]
) -> None:
    told = events(send("run.start", assistant_id="nested_question", input={"value": "q"})["run_id"])

    [question] = of(told, "input.requested")
    assert question.namespace[0].startswith("child:")
    assert [
        (len(each.namespace), each.data["event"], each.data["graph_name"])
        for each in of(told, "lifecycle")
    ] == [
        (0, "running", "nested_question"),
        (1, "started", "child"),
        (1, "interrupted", "child"),
        (0, "interrupted", "nested_question"),
    ]


def test_a_failure(send: Callable[..., Any], events: Callable[[str], list[Told]]) -> None:
    told = events(send("run.start", assistant_id="failing", input={})["run_id"])

    assert told[-1].data == {"event": "failed", "graph_name": "failing", "error": "boom"}


def test_tools_tasks_and_updates(
    send: Callable[..., Any], events: Callable[[str], list[Told]]
) -> None:
    calls = [{"name": "count", "args": {"upto": 2}, "id": "c1"}]
    told = events(send("run.start", assistant_id="tooled", input={"calls": calls})["run_id"])

    assert [each.data for each in of(told, "tools")][:3] == [
        {
            "event": "tool-started",
            "tool_call_id": "c1",
            "tool_name": "count",
            "input": {"upto": 2},
        },
        {"event": "tool-output-delta", "tool_call_id": "c1", "delta": "1"},
        {"event": "tool-output-delta", "tool_call_id": "c1", "delta": "2"},
    ]
    finished = of(told, "tools")[-1].data
    assert (finished["event"], finished["output"]["content"]) == ("tool-finished", "counted to 2")
    begun = [each.data["name"] for each in of(told, "tasks") if "result" not in each.data]
    assert begun == ["call", "tools"]
    assert [list(each.data) for each in of(told, "updates")] == [["call"], ["tools"]]


def test_a_subgraph_that_a_tool_asks(
    send: Callable[..., Any], events: Callable[[str], list[Told]]
) -> None:
    calls = [{"name": "consult", "args": {"question": "who?"}, "id": "c2"}]
    told = events(send("run.start", assistant_id="tooled", input={"calls": calls})["run_id"])

    below = [each for each in of(told, "lifecycle") if each.namespace]
    assert [each.data["event"] for each in below] == ["started", "completed"]
    assert below[0].data["cause"] == {"type": "toolCall", "tool_call_id": "c2"}
    assert below[0].data["graph_name"] == "tools"
    assert below[0].namespace in {each.namespace for each in of(told, "messages")}


def test_custom(send: Callable[..., Any], events: Callable[[str], list[Told]]) -> None:
    told = events(send("run.start", assistant_id="chatter", input=HI)["run_id"])

    assert [each.data for each in of(told, "custom")] == [
        {"progress": 1},
        "plain text",
        {"when": [1], "nested": [None, True, 1.5, "ü"]},
    ]


def test_a_named_channel(send: Callable[..., Any], events: Callable[[str], list[Told]]) -> None:
    told = events(send("run.start", assistant_id="counted", input=HI)["run_id"])

    assert [each.data for each in of(told, "custom")] == [
        {"name": "letters", "payload": len(ANSWER)}
    ]


def test_a_pydantic_state(send: Callable[..., Any], events: Callable[[str], list[Told]]) -> None:
    told = events(send("run.start", assistant_id="checked", input={"count": 1})["run_id"])

    assert [each.data for each in of(told, "values")] == [{"count": n} for n in (1, 2, 3)]


def test_a_functional_graph(send: Callable[..., Any], events: Callable[[str], list[Told]]) -> None:
    told = events(send("run.start", assistant_id="entrypoint", input=2)["run_id"])

    assert of(told, "values")[-1].data == {"total": 2}
    assert told[-1].data["event"] == "completed"


def test_input_inject__comes_in_after_what_runs(
    server: System,
    thread_id: str,
    send: Callable[..., Any],
    events: Callable[[str], list[Told]],
) -> None:
    events(send("run.start", assistant_id="chat", input=HI)["run_id"])

    send("input.inject", namespace=[], message={"role": "user", "content": "and now?"})

    run = server.get(f"/threads/{thread_id}/runs?limit=1")[0]
    contents = [
        each["content"] for each in of(events(run["run_id"]), "values")[-1].data["messages"]
    ]
    # The chat's own second message always has the same id.
    assert contents[-2] == "and now?"


def test_state_fork(
    server: System,
    thread_id: str,
    send: Callable[..., Any],
    events: Callable[[str], list[Told]],
    course: Course,
) -> None:
    events(send("run.start", assistant_id="steps", input=course.input())["run_id"])
    found = send("state.listCheckpoints")["checkpoints"]
    after_one = next(each["id"] for each in found if each["step"] == 1)

    result = send("state.fork", checkpoint_id=after_one)

    assert result["thread_id"] == thread_id
    told = events(result["run_id"])
    assert of(told, "values")[-1].data["log"] == ["one", "two", "three"]
    assert course.journal().count(">two") == 2
    assert course.journal().count(">one") == 1


def test_multitask__interrupts_at_once(
    server: System, thread_id: str, send: Callable[..., Any], course: Course
) -> None:
    first = send("run.start", assistant_id="steps", input=course.input(hold=("two",)))["run_id"]
    course.wait_until_notes(">two")

    second = send(
        "run.start", assistant_id="steps", input=course.input(), multitaskStrategy="interrupt"
    )["run_id"]

    path = f"/threads/{thread_id}/runs"
    wait_for(
        lambda: server.get(f"{path}/{second}")["status"] == "success", what="the second run's end"
    )
    assert server.get(f"{path}/{first}")["status"] == "interrupted"


def test_agent_get_tree(
    server: System, thread_id: str, send: Callable[..., Any], course: Course
) -> None:
    run_id = send("run.start", assistant_id="steps", input=course.input(hold=("two",)))["run_id"]
    course.wait_until_notes(">two")
    tree = {"namespace": [], "status": "running", "graph_name": "steps"}

    assert send("agent.getTree")["tree"] == tree
    course.open("two")
    server.get(f"/threads/{thread_id}/runs/{run_id}/join")
    assert send("agent.getTree", run_id=run_id)["tree"] == {**tree, "status": "completed"}


def test_agent_get_tree__of_subgraphs(
    server: System, thread_id: str, send: Callable[..., Any], events: Callable[[str], list[Told]]
) -> None:
    calls = [{"name": "consult", "args": {"question": "who?"}, "id": "c2"}]
    run_id = send("run.start", assistant_id="tooled", input={"calls": calls})["run_id"]
    server.get(f"/threads/{thread_id}/runs/{run_id}/join")
    below = next(each for each in of(events(run_id), "lifecycle") if each.namespace)

    tree = send("agent.getTree")["tree"]

    child = {"namespace": list(below.namespace), "status": "completed", "graph_name": "tools"}
    assert tree == {
        "namespace": [],
        "status": "completed",
        "graph_name": "tooled",
        "children": [child],
    }


def test_agent_get_tree__of_a_subgraph_that_waits(
    server: System, thread_id: str, send: Callable[..., Any]
) -> None:
    run_id = send("run.start", assistant_id="nested_question", input={"value": "q"})["run_id"]
    server.get(f"/threads/{thread_id}/runs/{run_id}/join")

    trees = [send("agent.getTree")["tree"], send("agent.getTree", run_id=run_id)["tree"]]

    assert trees[0] == trees[1]
    assert [(each["status"], each["graph_name"]) for each in (trees[0], *trees[0]["children"])] == [
        ("interrupted", "nested_question"),
        ("interrupted", "child"),
    ]


@pytest.mark.parametrize(
    "modes", [["messages-tuple"], ["messages"], ["messages", "messages-tuple"]]
)
def test_a_run_of_the_older_routes__as_its_modes_allow(
    server: System, thread_id: str, modes: list[str]
) -> None:
    body = {
        "assistant_id": "nested_chat",
        "input": HI,
        "stream_mode": ["values", *modes],
        "stream_subgraphs": True,
        "stream_resumable": True,
    }
    run_id = server.post(f"/threads/{thread_id}/runs", body)["run_id"]

    told = events_of(server, thread_id, run_id, log_of(server, thread_id, run_id))

    streamed, whole = _messages([each for each in told if each.namespace])
    deltas = [each["delta"]["text"] for each in streamed if each["event"] == "content-block-delta"]
    assert deltas == [*ANSWER]
    assert streamed[-2]["content"] == {"type": "text", "text": ANSWER}
    assert whole[-2]["content"]["text"] == "yours, the graph"
    last = of(told, "values")[-1]
    assert [list(each) for each in last.data["messages"]][:1] == [["type", "content", "id"]]
    assert [each.data["event"] for each in of(told, "lifecycle")] == ["running", "completed"]


def test_a_crash__nothing_of_the_lost_attempt_comes_after_it(crew: System, course: Course) -> None:
    victim = crew.start_worker()
    thread_id = crew.new_thread()
    given = {"assistant_id": "steps", "input": course.input(hold=("two",))}
    run_id = command(crew, thread_id, "run.start", **given)["run_id"]
    course.wait_until_notes(">two")
    path = f"/threads/{thread_id}/runs/{run_id}/stream"
    with crew.open("GET", path, headers={"Last-Event-ID": "-1"}) as response:
        # What the first attempt has said must be in the log before it is lost.
        assert response.readline() == b"event: metadata\r\n"

    victim.kill()
    crew.end_leases()
    course.open("two")
    crew.start_worker()

    log = log_of(crew, thread_id, run_id)
    attempts = [data["attempt"] for name, data, _ in log if name == "metadata"]
    assert attempts == [1, 2]
    ids = [tuple(map(int, str(entry_id).split("-"))) for *_, entry_id in log]
    assert ids == sorted(set(ids))
    told = events_of(crew, thread_id, run_id, log)
    assert [each.data["event"] for each in of(told, "lifecycle")] == ["running", "completed"]
    second = next(n for n, frame in enumerate(log) if frame[:1] == ("metadata",) and n)
    logs = [data["log"] for name, data, _ in log[second:] if name == "values"]
    assert logs == sorted(logs, key=len)
    assert logs[-1] == ["one", "two", "three"]
