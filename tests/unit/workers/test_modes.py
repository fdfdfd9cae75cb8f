"""Chunks to events."""

from __future__ import annotations

from langchain_core.messages import AIMessage, AIMessageChunk

from trellis_workers.modes import Translator, native_modes

META = {"langgraph_node": "model"}


def test_native_modes__values_are_always_asked_for():
    assert native_modes(["messages-tuple", "updates"]) == ["messages", "updates", "values"]
    assert native_modes(["values"]) == ["values"]


def test_events__only_what_the_client_asked_for():
    translator = Translator(["updates"])

    assert list(translator.events((), "updates", {"a": 1})) == [("updates", {"a": 1})]
    assert list(translator.events((), "values", {"a": 1})) == []


def test_events__of_a_subgraph():
    events = Translator(["values"]).events(("child:1", "inner:2"), "values", 1)

    assert list(events) == [("values|child:1|inner:2", 1)]


def test_events__messages_tuple():
    chunk = AIMessageChunk("a", id="m")

    assert list(Translator(["messages-tuple"]).events((), "messages", (chunk, META))) == [
        ("messages", (chunk, META))
    ]


def test_events__messages_accumulate():
    translator = Translator(["messages"])

    events = [
        event
        for text in ("hel", "lo")
        for event in translator.events((), "messages", (AIMessageChunk(text, id="m"), META))
    ]

    assert [name for name, _ in events] == [
        "messages/metadata",
        "messages/partial",
        "messages/partial",
    ]
    assert events[0][1] == {"m": {"metadata": META}}
    assert [data[0].content for _, data in events[1:]] == ["hel", "hello"]
    assert {type(data[0]) for _, data in events[1:]} == {AIMessage}


def test_events__messages_of_another_server():
    translator = Translator(["messages"])
    told = [AIMessageChunk("hel", id="m"), AIMessageChunk("lo", id="m"), AIMessage("x", id="n")]

    events = [
        event
        for message in told
        for event in translator.events(("remote:1",), "messages", [message.model_dump(), META])
    ]

    shown = [(name.partition("|")[0], data[0]) for name, data in events if "metadata" not in name]
    assert [(name, message.content) for name, message in shown] == [
        ("messages/partial", "hel"),
        ("messages/partial", "hello"),
        ("messages/complete", "x"),
    ]


def test_events__a_whole_message_is_complete():
    events = list(Translator(["messages"]).events((), "messages", (AIMessage("x", id="m"), META)))

    assert [name for name, _ in events] == ["messages/metadata", "messages/complete"]


def test_events__tools_of_another_server():
    told = {"event": "on_tool_start", "toolCallId": "c", "name": "t", "input": {}}

    assert list(Translator(["tools"]).events((), "tools", told)) == [("tools", told)]


def test_native_modes__lifecycle_is_made_of_tasks():
    assert native_modes(["lifecycle", "custom"]) == ["tasks", "tools", "custom", "values"]
    assert native_modes(["lifecycle", "custom"], subgraphs=False) == ["tasks", "tools", "values"]


def test_events__only_the_tools_that_were_asked_for():
    start = {"event": "tool-started", "tool_call_id": "c", "tool_name": "t", "input": {}}

    assert list(Translator(["lifecycle"]).events((), "tools", start)) == []


def test_events__tools_are_named_each_time():
    translator = Translator(["tools"])
    payloads = [
        {"event": "tool-started", "tool_call_id": "c", "tool_name": "t", "input": {"x": 1}},
        {"event": "tool-output-delta", "tool_call_id": "c", "delta": 2},
        {"event": "tool-error", "tool_call_id": "c", "message": "boom"},
    ]

    events = [event for each in payloads for event in translator.events(("s:1",), "tools", each)]

    call = {"toolCallId": "c", "name": "t"}
    assert events == [
        ("tools|s:1", {"event": "on_tool_start", **call, "input": {"x": 1}}),
        ("tools|s:1", {"event": "on_tool_event", **call, "data": 2}),
        ("tools|s:1", {"event": "on_tool_error", **call, "error": "boom"}),
    ]
