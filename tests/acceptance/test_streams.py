"""Streams through the official clients: every mode, alone and together, with subgraphs, joined later."""

from collections.abc import Iterable
from typing import Any

import pytest

from acceptance.course import Course

HI = {"messages": [("user", "hi")]}
ANSWER = "hello there"
SIGNATURE = "yours, the graph"


def names(parts: Iterable[Any]) -> list[str]:
    return [part.event for part in parts]


def test_metadata_comes_first(client: Any, thread_id: str) -> None:
    told: list[Any] = []
    parts = client.runs.stream(
        thread_id, "compiled", input={"said": []}, on_run_created=told.append
    )

    first = next(parts)

    assert first.event == "metadata"
    assert first.data == {"run_id": told[0]["run_id"], "attempt": 1}
    assert names(parts) == ["values", "values"]


def test_values(client: Any, thread_id: str, course: Course) -> None:
    parts = list(client.runs.stream(thread_id, "steps", input=course.input()))

    assert names(parts) == ["metadata"] + ["values"] * 4
    logs = [part.data["log"] for part in parts[1:]]
    assert logs == [[], ["one"], ["one", "two"], ["one", "two", "three"]]


def test_updates(client: Any, thread_id: str, course: Course) -> None:
    parts = list(
        client.runs.stream(thread_id, "steps", input=course.input(), stream_mode="updates")
    )

    assert names(parts) == ["metadata"] + ["updates"] * 3
    assert [part.data for part in parts[1:]] == [
        {name: {"log": [name]}} for name in ("one", "two", "three")
    ]


def test_messages_tuple(client: Any, thread_id: str) -> None:
    parts = list(client.runs.stream(thread_id, "chat", input=HI, stream_mode="messages-tuple"))

    chunks = [part.data[0] for part in parts[1:]]
    assert {*names(parts[1:])} == {"messages"}
    assert [chunk["content"] for chunk in chunks] == [*ANSWER, SIGNATURE]
    assert {chunk["type"] for chunk in chunks[:-1]} == {"AIMessageChunk"}
    assert len({chunk["id"] for chunk in chunks[:-1]}) == 1
    assert (chunks[-1]["type"], chunks[-1]["id"]) == ("ai", "signature")
    metadata = parts[1].data[1]
    assert (metadata["langgraph_node"], metadata["langgraph_step"]) == ("answer", 1)
    assert (metadata["graph_id"], metadata["thread_id"]) == ("chat", thread_id)
    assert (metadata["run_id"], metadata["run_attempt"]) == (parts[0].data["run_id"], 1)
    assert metadata["ls_provider"]


def test_messages_tuple__of_a_model_that_never_waits(
    client: Any, thread_id: str, course: Course
) -> None:
    """It has the event loop of its process, but not for itself alone."""
    parts = client.runs.stream(
        thread_id, "breathless", input={**HI, **course.input()}, stream_mode="messages-tuple"
    )

    assert next(parts).event == "metadata"
    assert next(parts).data[0]["content"] == "hear"
    course.open("heard")

    assert [part.data[0]["content"] for part in parts][:3] == [" me", " out", " now"]


def test_messages(client: Any, thread_id: str) -> None:
    parts = list(client.runs.stream(thread_id, "chat", input=HI, stream_mode="messages"))

    partial = ["messages/partial"] * len(ANSWER)
    complete = ["messages/metadata", "messages/complete"]
    assert names(parts) == ["metadata", "messages/metadata", *partial, *complete]
    contents = [part.data[0]["content"] for part in parts if part.event == "messages/partial"]
    assert contents == [ANSWER[: n + 1] for n in range(len(ANSWER))]
    message = parts[2].data[0]
    assert message["type"] == "ai"
    assert parts[1].data[message["id"]]["metadata"]["langgraph_node"] == "answer"
    assert parts[-1].data[0]["content"] == SIGNATURE
    assert [*parts[-2].data] == ["signature"]


def test_custom(client: Any, thread_id: str) -> None:
    parts = list(client.runs.stream(thread_id, "chatter", input=HI, stream_mode="custom"))

    assert names(parts) == ["metadata"] + ["custom"] * 3
    assert [part.data for part in parts[1:]] == [
        {"progress": 1},
        "plain text",
        {"when": [1], "nested": [None, True, 1.5, "ü"]},
    ]


def test_tasks(client: Any, thread_id: str) -> None:
    parts = list(client.runs.stream(thread_id, "compiled", input={"said": []}, stream_mode="tasks"))

    assert names(parts) == ["metadata", "tasks", "tasks"]
    start, end = (part.data for part in parts[1:])
    assert start["id"] == end["id"]
    assert (start["name"], start["input"]) == ("say", {"said": []})
    assert (end["result"], end["error"]) == ({"said": ["compiled"]}, None)


def test_checkpoints(client: Any, thread_id: str) -> None:
    parts = list(
        client.runs.stream(thread_id, "compiled", input={"said": []}, stream_mode="checkpoints")
    )

    assert names(parts) == ["metadata"] + ["checkpoints"] * 3
    states = [part.data for part in parts[1:]]
    assert [state["next"] for state in states] == [["__start__"], ["say"], []]
    assert states[-1]["values"] == {"said": ["compiled"]}
    saved = client.threads.get_state(thread_id)["checkpoint_id"]
    assert states[-1]["config"]["configurable"]["checkpoint_id"] == saved


def test_debug(client: Any, thread_id: str) -> None:
    parts = list(client.runs.stream(thread_id, "compiled", input={"said": []}, stream_mode="debug"))

    assert {*names(parts[1:])} == {"debug"}
    kinds = [part.data["type"] for part in parts[1:]]
    assert kinds == ["checkpoint", "checkpoint", "task", "task_result", "checkpoint"]
    state = client.threads.get_state(thread_id)
    last = parts[-1].data["payload"]
    assert last["checkpoint"] == state["checkpoint"]
    assert last["parent_checkpoint"] == state["parent_checkpoint"]
    assert parts[1].data["payload"]["parent_checkpoint"] is None


def test_events(client: Any, thread_id: str) -> None:
    parts = list(client.runs.stream(thread_id, "chat", input=HI, stream_mode="events"))

    assert {*names(parts[1:])} == {"events"}
    events = [part.data for part in parts[1:]]
    shown = [(event["event"], event["name"]) for event in events]
    tokens = [("on_chat_model_stream", "FakeListChatModel")] * len(ANSWER)
    assert shown == [
        ("on_chain_start", "chat"),
        ("on_chain_start", "answer"),
        ("on_chat_model_start", "FakeListChatModel"),
        *tokens,
        ("on_chat_model_end", "FakeListChatModel"),
        ("on_chain_stream", "answer"),
        ("on_chain_end", "answer"),
        ("on_chain_start", "sign"),
        ("on_chain_stream", "sign"),
        ("on_chain_end", "sign"),
        ("on_chain_end", "chat"),
    ]
    run_id = parts[0].data["run_id"]
    assert [event["parent_ids"][:1] for event in events] == [
        [],
        *[[run_id]] * (len(events) - 2),
        [],
    ]
    assert events[0]["run_id"] == run_id
    assert events[0]["data"] == {"input": {"messages": [["user", "hi"]]}}
    assert events[3]["data"]["chunk"]["content"] == ANSWER[0]
    assert events[3]["metadata"]["langgraph_node"] == "answer"
    assert events[-1]["data"]["output"]["messages"][-1]["content"] == SIGNATURE


def test_events__among_other_modes(sdk: Any, thread_id: str) -> None:
    parts = list(
        sdk.runs.stream(
            thread_id,
            "nested_chat",
            input=HI,
            stream_mode=["events", "updates", "values", "messages-tuple", "lifecycle"],
            stream_subgraphs=True,
        )
    )

    named = names(parts)
    [place] = {name.partition("|")[2] for name in named if "|" in name}
    shown = [
        part.data["event"] if part.event == "events" else part.event.partition("|")[0]
        for part in parts
        if part.event.partition("|")[0] != "messages"
    ]
    tokens = shown.count("on_chat_model_stream")
    assert named.count(f"messages|{place}") == tokens + 1 == len(ANSWER) + 1
    assert [name for name in shown if name[:3] != "on_"] == [
        *("metadata", "values", "lifecycle", "values"),
        *("updates", "values") * 2,
        *("updates", "lifecycle", "values"),
    ]
    # Bare, whatever graph they come from: they say it themselves.
    assert {part.data["name"] for part in parts if part.event == "events"} >= {"child", "answer"}
    assert shown.index("on_chain_start") < shown.index("lifecycle")
    assert shown[-1] == "on_chain_end"


def test_events__of_a_run_that_fails(sdk: Any, thread_id: str, course: Course) -> None:
    parts = list(
        sdk.runs.stream(
            thread_id, "failing", input=course.input(), stream_mode=["events", "values"]
        )
    )

    assert parts[-1].event == "error"
    assert parts[-1].data == {"error": "ValueError", "message": "boom"}
    assert names(parts).count("values") == 2


def test_events__of_a_question(sdk: Any, thread_id: str) -> None:
    parts = list(
        sdk.runs.stream(thread_id, "hitl", input={"value": "v"}, stream_mode=["events", "values"])
    )
    answered = list(
        sdk.runs.stream(
            thread_id, "hitl", command={"resume": "yes"}, stream_mode=["events", "values"]
        )
    )

    asked = [part.data for part in parts if part.event == "values"][-1]
    assert asked["__interrupt__"][0]["value"]["question"] == "approve?"
    assert [part.data for part in answered if part.event == "values"][-1]["answer"] == "yes"


def test_command(client: Any, thread_id: str, course: Course) -> None:
    parts = list(
        client.runs.stream(
            thread_id, "handing", input=course.input(), stream_mode=["updates", "values"]
        )
    )

    assert names(parts) == ["metadata", "values", "updates", "values", "command"]
    assert parts[-1].data == {
        "graph": "__parent__",
        "update": {"log": ["handed"]},
        "resume": None,
        "goto": "taken",
    }
    assert client.runs.get(thread_id, parts[0].data["run_id"])["status"] == "success"
    assert client.threads.get(thread_id)["status"] == "idle"


def called(name: str, **args: Any) -> dict[str, Any]:
    return {"messages": [], "calls": [{"name": name, "args": args, "id": "call-1"}]}


def test_tools(sdk: Any, thread_id: str) -> None:
    parts = list(
        sdk.runs.stream(thread_id, "tooled", input=called("count", upto=2), stream_mode="tools")
    )

    assert names(parts) == ["metadata"] + ["tools"] * 4
    assert {(part.data["toolCallId"], part.data["name"]) for part in parts[1:]} == {
        ("call-1", "count")
    }
    shown = [(part.data["event"], *list(part.data.values())[3:]) for part in parts[1:4]]
    assert shown == [
        ("on_tool_start", {"upto": 2}),
        ("on_tool_event", 1),
        ("on_tool_event", 2),
    ]
    end = parts[4].data
    assert (end["event"], end["output"]["content"]) == ("on_tool_end", "counted to 2")


def test_tools__while_they_are_at_work(sdk: Any, thread_id: str, course: Course) -> None:
    asked = called("count", upto=1, folder=str(course.folder), hold=True)
    parts = sdk.runs.stream(thread_id, "tooled", input=asked, stream_mode="tools")

    before = [next(parts) for _ in range(3)]
    course.open("count")

    assert [part.data.get("event") for part in before] == [None, "on_tool_start", "on_tool_event"]
    assert [part.data["event"] for part in parts] == ["on_tool_end"]


def test_tools__one_that_fails(sdk: Any, thread_id: str) -> None:
    parts = list(sdk.runs.stream(thread_id, "tooled", input=called("stumble"), stream_mode="tools"))

    assert names(parts) == ["metadata", "tools", "tools", "error"]
    assert parts[2].data == {
        "event": "on_tool_error",
        "toolCallId": "call-1",
        "name": "stumble",
        "error": "stumbled",
    }


@pytest.mark.parametrize("subgraphs", [False, True])
def test_lifecycle(sdk: Any, thread_id: str, subgraphs: bool) -> None:
    parts = list(
        sdk.runs.stream(
            thread_id,
            "tooled",
            input=called("consult", question="why"),
            stream_mode="lifecycle",
            stream_subgraphs=subgraphs,
        )
    )

    [place] = {name.partition("|")[2] for name in names(parts[1:])}
    assert place.startswith("tools:")
    assert names(parts[1:]) == [f"lifecycle|{place}"] * 2
    assert [part.data for part in parts[1:]] == [
        {"event": event, "namespace": [place], "tool_call_id": "call-1"}
        for event in ("started", "completed")
    ]


def test_lifecycle__changes_nothing_of_other_modes(sdk: Any, thread_id: str) -> None:
    parts = list(
        sdk.runs.stream(
            thread_id,
            "nested_chat",
            input=HI,
            stream_mode=["updates", "messages-tuple", "lifecycle"],
        )
    )

    shown = [name.partition("|")[0] for name in names(parts)]
    assert shown == [
        "metadata",
        "lifecycle",
        "messages",
        "messages",
        "updates",
        "lifecycle",
    ]


def test_lifecycle__of_a_question(sdk: Any, thread_id: str) -> None:
    parts = list(
        sdk.runs.stream(thread_id, "nested_question", input={"value": "v"}, stream_mode="lifecycle")
    )

    assert [part.data["event"] for part in parts[1:]] == ["started", "interrupted"]


def test_several_modes__in_the_order_of_production(client: Any, thread_id: str) -> None:
    parts = list(
        client.runs.stream(
            thread_id, "chatter", input=HI, stream_mode=["values", "updates", "custom"]
        )
    )

    assert names(parts) == ["metadata", "values"] + ["custom"] * 3 + ["updates", "values"]


def test_several_modes__messages_both_ways(client: Any, thread_id: str) -> None:
    parts = list(
        client.runs.stream(thread_id, "chat", input=HI, stream_mode=["messages", "messages-tuple"])
    )

    assert names(parts).count("messages") == len(ANSWER) + 1
    assert names(parts).count("messages/partial") == len(ANSWER)


def test_stateless(client: Any) -> None:
    parts = list(client.runs.stream(None, "compiled", input={"said": []}, stream_mode="updates"))

    assert names(parts) == ["metadata", "updates"]
    assert parts[1].data == {"say": {"said": ["compiled"]}}


def test_subgraphs(client: Any, thread_id: str) -> None:
    parts = list(
        client.runs.stream(
            thread_id,
            "nested_chat",
            input=HI,
            stream_mode=["updates", "messages-tuple"],
            stream_subgraphs=True,
        )
    )

    [namespace] = {name.partition("|")[2] for name in names(parts) if "|" in name}
    assert namespace.startswith("child:")
    assert names(parts).count(f"updates|{namespace}") == 2
    assert names(parts).count(f"messages|{namespace}") == len(ANSWER) + 1
    assert names(parts)[-1] == "updates"
    assert [*parts[-1].data] == ["child"]


def test_subgraphs__not_asked_for(client: Any, thread_id: str) -> None:
    parts = list(
        client.runs.stream(
            thread_id, "nested_chat", input=HI, stream_mode=["updates", "messages-tuple"]
        )
    )

    # What the node of the parent returned, not what was said inside it.
    assert names(parts) == ["metadata", "messages", "messages", "updates"]
    assert [part.data[0]["type"] for part in parts[1:3]] == ["ai", "ai"]


def test_interrupt(client: Any, thread_id: str) -> None:
    parts = list(
        client.runs.stream(
            thread_id, "hitl", input={"value": "v"}, stream_mode=["values", "updates"]
        )
    )

    assert names(parts)[-2:] == ["updates", "values"]
    [question] = parts[-2].data["__interrupt__"]
    assert question["value"] == {"question": "approve?", "value": "v"}
    assert {*question} == {"value", "id"}
    assert parts[-1].data == {"value": "v", "log": ["prepare"], "__interrupt__": [question]}


def test_join_stream__of_a_run_that_goes_on(client: Any, thread_id: str, course: Course) -> None:
    run = client.runs.create(
        thread_id,
        "steps",
        input=course.input(hold=("two",)),
        stream_mode=["updates", "values"],
        stream_resumable=True,
    )
    course.wait_until_notes(">two")
    parts = client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1")

    replayed = [next(parts) for _ in range(4)]
    course.open("two")
    live = list(parts)

    assert names(replayed) == ["metadata", "values", "updates", "values"]
    assert names(live) == ["updates", "values"] * 2
    assert [*live[0].data] == ["two"]
    assert all(part.id for part in replayed + live)


def test_join_stream__after_the_end(client: Any, thread_id: str) -> None:
    client.runs.wait(thread_id, "compiled", input={"said": []})
    [run] = client.runs.list(thread_id)

    assert list(client.runs.join_stream(thread_id, run["run_id"])) == []


def test_join_stream__replays_a_resumable_run(client: Any, thread_id: str, course: Course) -> None:
    parts = list(
        client.runs.stream(
            thread_id,
            "steps",
            input=course.input(),
            stream_mode=["updates", "values"],
            stream_resumable=True,
        )
    )
    run_id = parts[0].data["run_id"]

    again = list(client.runs.join_stream(thread_id, run_id, last_event_id="-1"))
    rest = list(client.runs.join_stream(thread_id, run_id, last_event_id=parts[3].id))
    updates = list(
        client.runs.join_stream(
            thread_id, run_id, last_event_id="-1", stream_mode=["updates", "custom"]
        )
    )

    assert again == parts
    assert rest == parts[4:]
    assert updates == [part for part in parts if part.event == "updates"]


def test_join_stream__replays_a_failure(client: Any, thread_id: str) -> None:
    parts = list(client.runs.stream(thread_id, "failing", input={}, stream_resumable=True))
    run_id = parts[0].data["run_id"]

    again = list(client.runs.join_stream(thread_id, run_id, last_event_id="-1"))

    assert parts[-1].event == "error"
    assert again == parts
