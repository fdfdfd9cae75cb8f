"""From the entries of a log to events."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trellis.protocol.translate import ProtocolEvent, Translator, channels, envelope
from trellis.stream import encoder, sse
from trellis.stream.entries import BEAT, GAP, End, Event

RUN = "01a202bd-11e7-738f-bb7d-5806c9970109"
HUMAN = {
    "content": "hi",
    "additional_kwargs": {},
    "response_metadata": {},
    "type": "human",
    "name": None,
    "id": "h",
}
QUESTION = {"value": {"q": 1}, "id": "i1"}

Told = tuple[str, list[str], Any]


class Log:
    """A run's log, and what a translator makes of it."""

    def __init__(self, fence: int = 2) -> None:
        self.translator = Translator(RUN, "echo")
        self.fence, self.n = fence, 0
        self.events: list[ProtocolEvent] = []

    def add(self, name: str, data: Any) -> list[Told]:
        self.n += 1
        frame = sse.frame(name, encoder.dumps(data))
        return self._fed(Event(b"17000-3", name, frame, self.fence, self.n))

    def end(self, status: str | None, values: Any = None) -> list[Told]:
        item = End(status, None if values is None else encoder.dumps(values))
        return self._fed(item, timestamp=18000)

    def _fed(self, item: Any, **more: Any) -> list[Told]:
        events = self.translator.feed(item, **more)
        self.events += events
        return [(each.method, list(each.namespace), json.loads(each.data)) for each in events]


@pytest.fixture
def log() -> Log:
    """A log whose run has begun."""
    log = Log()
    log.add("metadata", {"run_id": RUN, "attempt": 1})
    return log


def lifecycle(event: str, **more: Any) -> Told:
    return "lifecycle", [], {"event": event, "graph_name": "echo", **more}


# The run itself


def test_root__runs_once() -> None:
    log = Log()

    assert log.add("metadata", {"run_id": RUN, "attempt": 1}) == [lifecycle("running")]
    assert log.add("metadata", {"run_id": RUN, "attempt": 2}) == []
    assert log.events[0].event_id == f"synth:{RUN}:lc||running"
    assert log.events[0].timestamp == 17000


def test_root__runs_whatever_the_log_begins_with() -> None:
    log = Log()

    assert log.add("values", {"a": 1}) == [lifecycle("running"), ("values", [], {"a": 1})]
    assert [each.event_id for each in log.events] == [f"synth:{RUN}:lc||running", "17000-2-1.1"]


@pytest.mark.parametrize(
    ("status", "event"),
    [("success", "completed"), ("interrupted", "interrupted"), (None, "interrupted")],
)
def test_root__ends(log: Log, status: str | None, event: str) -> None:
    assert log.end(status) == [lifecycle(event)]
    assert log.events[-1].event_id == f"synth:{RUN}:lc||{event}"
    assert log.events[-1].timestamp == 18000


def test_root__fails_with_what_the_log_says(log: Log) -> None:
    assert log.add("error", {"error": "ValueError", "message": "boom happened"}) == []
    assert log.end("error", {"__error__": {}}) == [lifecycle("failed", error="boom happened")]


def test_root__fails_with_what_the_end_says(log: Log) -> None:
    values = {"__error__": {"error": "ValueError", "message": "boom"}}

    assert log.end("error", values) == [lifecycle("failed", error="boom")]


def test_root__fails_and_nobody_says_why(log: Log) -> None:
    assert log.end("error") == [lifecycle("failed", error="The run failed.")]


def test_root__times_out(log: Log) -> None:
    assert log.end("timeout") == [lifecycle("failed", error="The run took longer than it may.")]


def test_silence_and_gaps_say_nothing(log: Log) -> None:
    assert log.translator.feed(BEAT) == []
    assert log.translator.feed(GAP) == []


# States


def test_values__messages_are_compacted(log: Log) -> None:
    state = {"messages": [HUMAN], "n": [], "deep": {"m": HUMAN}}
    short = {"type": "human", "content": "hi", "id": "h"}

    assert log.add("values", state) == [
        ("values", [], {"messages": [short], "n": [], "deep": {"m": short}})
    ]
    assert list(json.loads(log.events[-1].data)["messages"][0]) == ["type", "content", "id"]


def test_values__others_pass_as_they_are(log: Log) -> None:
    log.add("values", {"a": 2**70, "b": 0.1})

    assert log.events[-1].data == encoder.dumps({"a": 2**70, "b": 0.1})


def test_values__of_a_subgraph(log: Log) -> None:
    assert log.add("values|child:1|inner:2", 1) == [("values", ["child:1", "inner:2"], 1)]


ASKED = ("input.requested", [], {"interrupt_id": "i1", "payload": {"q": 1}})


def test_values__ask_when_the_run_has_ended(log: Log) -> None:
    """Before, nobody could answer."""
    assert log.add("values", {"a": 1, "__interrupt__": [QUESTION]}) == [("values", [], {"a": 1})]
    assert log.end("success") == [ASKED, lifecycle("interrupted")]
    assert log.events[-2].event_id == f"synth:{RUN}:input||i1"


@pytest.mark.parametrize("status", ["interrupted", "error", "timeout", None])
def test_values__a_run_that_ended_otherwise_asks_nothing(log: Log, status: str | None) -> None:
    log.add("values", {"a": 1, "__interrupt__": [QUESTION]})

    assert [method for method, *_ in log.end(status)] == ["lifecycle"]


def test_values__a_question_is_told_once_where_it_was_asked(log: Log) -> None:
    second = {"value": 2, "id": "i2"}
    log.add("values|ask:1", {"__interrupt__": [QUESTION]})
    log.add("updates", {"__interrupt__": [QUESTION]})
    log.add("values", {"a": 1, "__interrupt__": [QUESTION, second]})

    assert log.end("success", {"a": 1, "__interrupt__": [QUESTION, second]})[:-1] == [
        ("input.requested", ["ask:1"], ASKED[2]),
        ("input.requested", [], {"interrupt_id": "i2", "payload": 2}),
    ]


def test_values__that_only_look_like_a_question(log: Log) -> None:
    state = {"a": {"__interrupt__": 1}}

    assert log.add("values", state) == [("values", [], state)]
    assert log.end("success") == [lifecycle("completed")]


def test_answered__is_one_fact_however_many_attempts_say_so(log: Log) -> None:
    told = [log.add("input.answered", {"interrupt_ids": ["i1"]}) for _ in range(2)]

    assert told == [[("input.answered", [], {"interrupt_ids": ["i1"]})]] * 2
    assert log.events[-1].event_id == log.events[-2].event_id == f"synth:{RUN}:answered"
    assert channels(log.events[-1]) == ("input",)


def test_updates(log: Log) -> None:
    update = {"node": {"messages": [HUMAN]}}

    assert log.add("updates|c:1", update) == [
        (
            "updates",
            ["c:1"],
            {"node": {"messages": [{"type": "human", "content": "hi", "id": "h"}]}},
        )
    ]


def test_updates__a_breakpoint_pauses_without_a_question(log: Log) -> None:
    assert log.add("updates", {"__interrupt__": []}) == [("updates", [], {"__interrupt__": []})]
    assert log.end("success", {"a": 1}) == [lifecycle("interrupted")]


@pytest.mark.parametrize("asked", [[QUESTION], {"task": [QUESTION]}], ids=["list", "by task"])
def test_end__tells_of_questions_that_no_event_told(log: Log, asked: Any) -> None:
    assert log.end("success", {"a": 1, "__interrupt__": asked}) == [
        ("input.requested", [], {"interrupt_id": "i1", "payload": {"q": 1}}),
        lifecycle("interrupted"),
    ]


def test_checkpoints(log: Log) -> None:
    told = {
        "config": {"configurable": {"checkpoint_id": "c2", "thread_id": "t"}},
        "parent_config": {"configurable": {"checkpoint_id": "c1"}},
        "metadata": {"source": "loop", "step": 1, "parents": {}},
        "values": {"a": 1},
    }

    assert log.add("checkpoints", told) == [
        ("checkpoints", [], {"id": "c2", "parent_id": "c1", "step": 1, "source": "loop"})
    ]
    [first] = log.add("checkpoints", {**told, "parent_config": None})
    assert first[2] == {"id": "c2", "step": 1, "source": "loop"}


# Other modes


@pytest.mark.parametrize("name", ["custom", "tasks"])
def test_what_passes_as_it_is(log: Log, name: str) -> None:
    assert log.add(f"{name}|c:1", {"x": [1]}) == [(name, ["c:1"], {"x": [1]})]


@pytest.mark.parametrize("name", ["debug", "events", "messages/metadata", "bogus"])
def test_what_has_no_channel(log: Log, name: str) -> None:
    assert log.add(name, {"x": 1}) == []


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        (
            {"event": "on_tool_start", "input": {"a": 1}},
            {"event": "tool-started", "tool_name": "adder", "input": {"a": 1}},
        ),
        (
            {"event": "on_tool_event", "data": "part"},
            {"event": "tool-output-delta", "delta": "part"},
        ),
        (
            {"event": "on_tool_event", "data": {"n": 1}},
            {"event": "tool-output-delta", "delta": '{"n":1}'},
        ),
        (
            {"event": "on_tool_end", "output": HUMAN},
            {
                "event": "tool-finished",
                "output": {"type": "human", "content": "hi", "id": "h"},
            },
        ),
        (
            {"event": "on_tool_error", "error": "boom"},
            {"event": "tool-error", "message": "boom"},
        ),
    ],
    ids=["start", "text", "object", "end", "error"],
)
def test_tools(log: Log, told: dict[str, Any], shown: dict[str, Any]) -> None:
    [(method, place, data)] = log.add("tools|t:1", {**told, "toolCallId": "c1", "name": "adder"})

    assert (method, place) == ("tools", ["t:1"])
    assert data == {"tool_call_id": "c1", **shown}


@pytest.mark.parametrize("name", ["messages", "messages/partial", "tools", "checkpoints"])
def test_what_could_not_be_encoded(log: Log, name: str) -> None:
    assert log.add(name, "<object>") == []


# Subgraphs


def test_lifecycle__of_a_subgraph(log: Log) -> None:
    place = ["child:t1"]

    assert log.add("lifecycle|child:t1", {"event": "started", "namespace": place}) == [
        (
            "lifecycle",
            place,
            {
                "event": "started",
                "namespace": place,
                "graph_name": "child",
                "trigger_call_id": "t1",
            },
        )
    ]
    assert log.events[-1].event_id == "17000-2-2"
    assert log.add("lifecycle|child:t1", {"event": "completed", "namespace": place}) == [
        ("lifecycle", place, {"event": "completed", "graph_name": "child"})
    ]
    assert log.events[-1].event_id == f"synth:{RUN}:lc|child:t1|completed"


def test_lifecycle__that_a_tool_call_caused(log: Log) -> None:
    told = {"event": "started", "namespace": ["c:t1", "1"], "tool_call_id": "call"}

    [(_, place, data)] = log.add("lifecycle|c:t1|1", told)

    assert place == ["c:t1", "1"]
    assert (data["graph_name"], data["trigger_call_id"]) == ("c", "t1")
    assert data["cause"] == {"type": "toolCall", "tool_call_id": "call"}


def test_lifecycle__of_a_failure(log: Log) -> None:
    error = {"error": "ValueError", "message": "boom"}
    told = {"event": "failed", "namespace": ["c:1"], "error": error}

    assert log.add("lifecycle|c:1", told) == [
        ("lifecycle", ["c:1"], {"event": "failed", "graph_name": "c", "error": "boom"})
    ]


@pytest.mark.parametrize(
    ("status", "event"), [("success", "completed"), ("interrupted", "interrupted")]
)
def test_lifecycle__the_run_takes_its_subgraphs_with_it(log: Log, status: str, event: str) -> None:
    for place in ("a:1", "a:1|b:2", "c:3"):
        log.add(f"lifecycle|{place}", {"event": "started", "namespace": place.split("|")})
    log.add("lifecycle|c:3", {"event": "completed", "namespace": ["c:3"]})

    assert [(place, data["event"]) for _, place, data in log.end(status)] == [
        (["a:1", "b:2"], event),
        (["a:1"], event),
        ([], event),
    ]


# Ids, channels, envelopes


def test_event_ids__count_within_an_entry(log: Log) -> None:
    meta: dict[str, Any] = {}
    chunk = {"type": "AIMessageChunk", "content": "a", "id": "m"}

    log.add("messages", [chunk, meta])

    ids = [each.event_id for each in log.events[1:]]
    assert ids == ["17000-2-2", "17000-2-2.1", "17000-2-2.2"]


def test_event_ids__of_two_runs_in_the_same_millisecond() -> None:
    """Their logs may well give two entries the same id."""
    logs = Log(fence=2), Log(fence=3)
    for log in logs:
        log.add("values", {"n": 1})

    assert len({log.events[-1].event_id for log in logs}) == 2


def test_event_ids__are_the_same_for_every_reader() -> None:
    def read() -> list[ProtocolEvent]:
        log = Log()
        log.add("metadata", {})
        log.add("messages", [{"type": "ai", "content": "a", "id": "m"}, {}])
        log.add("values", {"__interrupt__": [QUESTION]})
        log.end("success")
        return log.events

    assert read() == read()


@pytest.mark.parametrize(
    ("method", "data", "expected"),
    [
        ("values", {"name": "x"}, ("values",)),
        ("input.requested", {}, ("input",)),
        ("custom", 1, ("custom",)),
        ("custom", {"a": {"name": "x"}}, ("custom",)),
        ("custom", {"name": 1}, ("custom",)),
        ("custom", {"name": "x", "payload": 1}, ("custom:x", "custom")),
    ],
)
def test_channels(method: str, data: Any, expected: tuple[str, ...]) -> None:
    assert channels(ProtocolEvent(method, (), 1, encoder.dumps(data), "1-0")) == expected


def test_envelope() -> None:
    event = ProtocolEvent("values", ("a:1", 'b"'), 17, b'{"a":1}', "17-0")

    assert json.loads(envelope(event, 5)) == {
        "type": "event",
        "event_id": "17-0",
        "seq": 5,
        "method": "values",
        "params": {"namespace": ["a:1", 'b"'], "timestamp": 17, "data": {"a": 1}},
    }
