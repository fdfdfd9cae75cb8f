"""What a graph is started from, told, and asked for."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from langgraph.types import Command

from trellis.db.checkpoints.load import Stored
from trellis.db.runs import Claimed
from trellis.domain.ids import new_id
from trellis.domain.runs import Claim
from trellis_workers import driver


def a_run(*, has_progress: bool = False, attempt: int = 1, **kwargs: object) -> Claimed:
    defaults = {
        "input": {"x": 1},
        "command": None,
        "durability": "async",
        "config": {"configurable": {"checkpoint_id": "c", "a": 1}, "metadata": {"m": 1}},
    }
    return Claimed(
        tenant_id="default",
        claim=Claim(run_id=new_id(), thread_id=new_id(), fence=1, attempt=attempt),
        assistant_id=new_id(),
        graph_id="g",
        kwargs={**defaults, **kwargs},
        has_progress=has_progress,
        seconds_left=None,
    )


def a_head(checkpoint_id: str, *, run_id: str) -> Stored:
    return Stored(new_id(), "", checkpoint_id, None, {}, {"run_id": run_id}, {}, ())


def test_start_of__input():
    assert driver.start_of(a_run()) == {"x": 1}


def test_start_of__command_beats_input():
    assert driver.start_of(a_run(command={"resume": "yes"})) == Command(resume="yes")


@pytest.mark.parametrize(
    "command", [{}, {"update": {}}, {"update": []}, {"goto": []}, {"goto": ""}, {"resume": None}]
)
def test_start_of__a_command_that_says_nothing_runs_on(command):
    assert driver.start_of(a_run(command=command)) is None


@pytest.mark.parametrize("answer", ["", 0, False, [], {}])
def test_start_of__an_empty_answer_is_one(answer):
    assert driver.start_of(a_run(command={"resume": answer})) == Command(resume=answer)


@pytest.mark.parametrize("command", [None, {"resume": "yes"}, {"goto": "b"}, {"update": {"x": 2}}])
def test_start_of__a_later_attempt_never_applies_input_or_answer_again(command):
    """Races 27 and 28."""
    assert driver.start_of(a_run(command=command, has_progress=True, attempt=2)) is None


def test_start_of__crash_before_anything_was_durable():
    """Race 26."""
    assert driver.start_of(a_run(attempt=2)) == {"x": 1}


def test_start_of__exit_continues_as_well():
    """All that such a run writes is committed at once: what is there is all of it."""
    run = a_run(command={"resume": "yes"}, has_progress=True, durability="exit")

    assert driver.start_of(run) is None


def test_start_of__answers_by_id_are_given_again_until_they_are_taken():
    first, second = "a" * 32, "b" * 32
    command = {"resume": {first: 1, second: 2}, "update": {"x": 2}}
    run = a_run(command=command, has_progress=True, attempt=2)

    assert driver.start_of(run) == Command(resume={first: 1, second: 2})
    assert driver.start_of(run, answered={first}) == Command(resume={second: 2})
    assert driver.start_of(run, answered={first, second}) is None


def test_config_of():
    run = a_run()

    config = driver.config_of(run, None)

    assert config["run_name"] == "g"
    assert config["metadata"]["run_id"] == run.claim.run_id == str(config["run_id"])
    assert config["metadata"]["run_attempt"] == 1
    assert config["configurable"]["checkpoint_id"] == "c"
    assert "run_id" not in run.kwargs["config"]["metadata"]


def test_config_of__named_by_the_client():
    run = a_run(config={"configurable": {}, "run_name": "mine"})

    assert driver.config_of(run, None)["run_name"] == "mine"


def test_config_of__a_later_attempt_goes_on_from_the_head_of_the_fork():
    run = a_run(has_progress=True, attempt=2)

    config = driver.config_of(run, a_head("d", run_id=run.claim.run_id))

    assert config["configurable"] == {"a": 1}


def test_config_of__a_later_attempt_goes_on_where_the_fork_began_while_it_has_no_head():
    config = driver.config_of(a_run(has_progress=True, attempt=2), a_head("d", run_id=new_id()))

    assert config["configurable"] == {"a": 1, "checkpoint_id": "c", "__pregel_resuming": True}


def test_config_of__a_later_attempt_goes_on_at_the_head_that_it_was_told_to_start_from():
    config = driver.config_of(a_run(has_progress=True, attempt=2), a_head("c", run_id=new_id()))

    assert config["configurable"] == {"a": 1}


@dataclass
class Context:
    model: str = "m"


def test_context_of__a_dataclass_gets_only_what_it_knows():
    graph = SimpleNamespace(context_schema=Context)

    assert driver.context_of(graph, {"model": "x", "other": 1}) == {"model": "x"}
    assert driver.context_of(SimpleNamespace(context_schema=None), {"a": 1}) == {"a": 1}
