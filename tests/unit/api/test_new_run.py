"""From the body of a create to a NewRun."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.api import body, new_run
from trellis.api.schemas import RunCreate, StatelessRunCreate
from trellis.domain.new_run import NewRun
from trellis.errors import BadRequest, Invalid, NotSupported


def parsed(**fields: Any) -> NewRun:
    create = body.shape({"assistant_id": "echo", **fields}, RunCreate)
    return new_run.on_thread(create, "request-1")


def test_on_thread__nothing_but_the_assistant() -> None:
    assert parsed() == NewRun(assistant_id="echo", request_id="request-1")


@pytest.mark.parametrize(
    ("given", "assistant_id"),
    [
        ("echo", "echo"),
        ("my-graph", "my-graph"),
        ("01A202B2-17DE-7163-99F7-2D55527E04AD", "01a202b2-17de-7163-99f7-2d55527e04ad"),
        ("urn:uuid:01a202b2-17de-7163-99f7-2d55527e04ad", "01a202b2-17de-7163-99f7-2d55527e04ad"),
    ],
)
def test_assistant_id(given: str, assistant_id: str) -> None:
    assert parsed(assistant_id=given).assistant_id == assistant_id


@pytest.mark.parametrize(
    ("given", "modes"),
    [
        ("updates", ("updates",)),
        (["values", "custom", "values"], ("values", "custom")),
        ([], ("values",)),
        (None, ("values",)),
        (
            ["messages-tuple", "debug", "tasks", "checkpoints"],
            ("messages-tuple", "debug", "tasks", "checkpoints"),
        ),
        (["events", "tools", "lifecycle"], ("events", "tools", "lifecycle")),
    ],
)
def test_stream_mode(given: Any, modes: tuple[str, ...]) -> None:
    assert parsed(stream_mode=given).stream_mode == modes


def test_stream_mode__unknown() -> None:
    with pytest.raises(Invalid, match="'bogus' is not one of: values, "):
        parsed(stream_mode="bogus")


@pytest.mark.parametrize(
    ("fields", "durability"),
    [
        ({}, "async"),
        ({"durability": "sync"}, "sync"),
        ({"checkpoint_during": True}, "async"),
        ({"checkpoint_during": False}, "exit"),
        ({"checkpoint_during": False, "durability": "sync"}, "sync"),
    ],
)
def test_durability(fields: dict[str, Any], durability: str) -> None:
    assert parsed(**fields).durability == durability


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("feedback_keys", ["a"]),
        ("langsmith_tracer", {"project_name": "p"}),
    ],
)
def test_on_thread__what_cannot_be_honoured_is_refused(name: str, value: Any) -> None:
    with pytest.raises(NotSupported, match=f"{name}.* is not supported yet"):
        parsed(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("multitask_strategy", "enqueue"),
        ("on_disconnect", "continue"),
        ("feedback_keys", []),
        ("strict_resume", False),
    ],
)
def test_on_thread__what_changes_nothing_is_accepted(name: str, value: Any) -> None:
    assert parsed(**{name: value}) == parsed()


@pytest.mark.parametrize("strategy", ["reject", "enqueue", "interrupt", "rollback"])
def test_on_thread__multitask_strategy(strategy: str) -> None:
    assert parsed(multitask_strategy=strategy).multitask_strategy == strategy


def test_on_thread__on_disconnect() -> None:
    assert parsed(on_disconnect="cancel").on_disconnect == "cancel"
    assert parsed().on_disconnect == "continue"


def test_stateless__every_multitask_strategy_is_honoured_by_having_no_neighbours() -> None:
    fields = {"assistant_id": "echo", "multitask_strategy": "reject", "on_completion": "keep"}

    new = new_run.stateless(body.shape(fields, StatelessRunCreate), "request-1")

    assert new.multitask_strategy == "enqueue"
    assert new.on_completion == "keep"


def test_config__only_what_was_sent() -> None:
    config = {"tags": ["t"], "recursion_limit": 0, "configurable": {"model": "q"}, "bogus": 1}

    assert parsed(config=config).config == {
        "tags": ["t"],
        "recursion_limit": 0,
        "configurable": {"model": "q"},
    }


@pytest.mark.parametrize(
    "key",
    [
        "thread_id",
        "run_id",
        "langgraph_auth_user",
        "langgraph_auth_user_id",
        "langgraph_auth_permissions",
        "langgraph_request_id",
        "__pregel_checkpointer",
        "checkpoint_during_x",
    ],
)
def test_config__the_servers_own_keys_are_dropped(key: str) -> None:
    config = parsed(config={"configurable": {key: "mine", "model": "q"}}).config

    assert config == {"configurable": {"model": "q"}}


def test_config__metadata_that_is_too_large() -> None:
    with pytest.raises(Invalid, match="metadata is larger than"):
        parsed(config={"metadata": {"text": "x" * 70_000}})


def test_config__and_context_at_once() -> None:
    with pytest.raises(BadRequest, match="Cannot specify both configurable and context"):
        parsed(config={"configurable": {"a": 1}}, context={"b": 1})


@pytest.mark.parametrize("configurable", [{}, {"thread_id": "t"}])
def test_config__a_configurable_that_says_nothing_does_not_clash_with_context(
    configurable: dict[str, str],
) -> None:
    assert parsed(config={"configurable": configurable}, context={"b": 1}).context == {"b": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"checkpoint_id": "c1"},
        {"checkpoint": {"checkpoint_id": "c1", "thread_id": "another"}},
        {"config": {"configurable": {"checkpoint_id": "c1"}}},
    ],
)
def test_checkpoint(fields: dict[str, Any]) -> None:
    assert parsed(**fields).checkpoint == {"checkpoint_id": "c1"}


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"resume": "yes"},
        {"resume": {"id": [1]}},
        {"resume": {"id": None}},
        {"update": {"a": 1}},
        {"update": [["a", 1], ["b", 2]]},
        {"goto": "node"},
        {"goto": ["a", "b"]},
        {"goto": {"node": "a", "input": None}},
        {"goto": [{"node": "a", "input": 1}, {"node": "b", "input": 2}]},
    ],
)
def test_command(command: dict[str, Any]) -> None:
    assert parsed(command=command).command == command


@pytest.mark.parametrize(
    "command",
    [
        [],
        "resume",
        {"update": "a"},
        {"update": [["a"]]},
        {"update": [[1, 2]]},
        {"goto": 1},
        {"goto": ["a", {"node": "b", "input": 1}]},
        {"goto": {"node": "a"}},
        {"goto": [{"node": 1, "input": 1}]},
        {"goto": [None]},
    ],
)
def test_command__malformed(command: Any) -> None:
    with pytest.raises(Invalid, match="command"):
        parsed(command=command)


@pytest.mark.parametrize("rest", [{}, {"update": None, "goto": None}, {"update": {}, "goto": []}])
def test_command__null_answers_no_question(rest: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match="name it"):
        parsed(command={"resume": None, **rest})


def test_command__null_beside_something_says_nothing() -> None:
    assert parsed(command={"resume": None, "goto": "node"}).command == {"goto": "node"}


@pytest.mark.parametrize("seconds", [-1, 1e12, "1"])
def test_after_seconds__out_of_bounds(seconds: Any) -> None:
    with pytest.raises(Invalid, match="after_seconds"):
        parsed(after_seconds=seconds)


@pytest.mark.parametrize("given", ["*", ["a", "b"], None])
def test_interrupt_before(given: Any) -> None:
    assert parsed(interrupt_before=given).interrupt_before == given


@pytest.mark.parametrize("given", ["a", [1], {}])
def test_interrupt_before__malformed(given: Any) -> None:
    with pytest.raises(Invalid, match="interrupt_before"):
        parsed(interrupt_before=given)
