"""A worker process is killed before a commit of its run, and another one goes on.

`make chaos` kills before every commit, one after the other; `make test` at two places for each kind of run.
"""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from acceptance.course import Course
from acceptance.crashes import Case, Workers, workers
from acceptance.system import System, running

Start = Callable[[Case], dict[str, Any]]

AT_THE_END = -1

KEEPING = Path(__file__).with_name("keeping") / "langgraph.json"

SEEDS = int(os.environ.get("SEEDS", "1"))


@pytest.fixture(scope="module")
def front(new_system: Callable[..., System]) -> Iterator[System]:
    """A web process; the graphs are too many for the other tests of faults."""
    with running(new_system()) as system:
        system.start_web()
        yield system


@pytest.fixture(scope="module")
def crew(front: System) -> Iterator[Workers]:
    with workers(front) as crew:
        yield crew


@pytest.fixture(scope="module")
def own_crew(
    new_system: Callable[..., System], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Workers]:
    """Their system has a checkpointer of the operator's own."""
    env = {
        "TRELLIS_CONFIG": str(KEEPING),
        "CHECKPOINTS_FILE": str(tmp_path_factory.mktemp("checkpoints") / "kept.sqlite"),
    }
    with running(new_system(env=env)) as system:
        system.start_web()
        with workers(system) as crew:
            yield crew


def plain(case: Case) -> dict[str, Any]:
    return {"input": case.course.input(log=["in"])}


def resume(case: Case) -> dict[str, Any]:
    case.run(**plain(case))
    return {"command": {"resume": "yes"}}


def resume_by_id(case: Case) -> dict[str, Any]:
    case.run(**plain(case))
    return {"command": {"resume": {case.state()["interrupts"][0]["id"]: "yes"}}}


def update(case: Case) -> dict[str, Any]:
    case.run(**plain(case))
    return {"command": {"update": {"log": ["new"]}}}


def update_and_resume(case: Case) -> dict[str, Any]:
    case.run(**plain(case))
    return {"command": {"resume": "yes", "update": {"log": ["new"]}}}


def goto_and_update(case: Case) -> dict[str, Any]:
    case.run(**plain(case))
    return {"command": {"goto": "b", "update": {"log": ["new"]}}}


def origin(case: Case, node: str) -> str:
    """The checkpoint before a node."""
    found: str = next(it for it in case.history() if it["next"] == [node])["checkpoint"][
        "checkpoint_id"
    ]
    return found


def fork(case: Case) -> dict[str, Any]:
    case.run(**plain(case))
    return {
        "input": None,
        "checkpoint_id": origin(case, "b" if case.graph == "line" else "child"),
    }


def fork_with_input(case: Case) -> dict[str, Any]:
    case.run(**plain(case))
    return {"input": {"log": ["other"]}, "checkpoint_id": origin(case, "b")}


def fork_with_update(case: Case) -> dict[str, Any]:
    case.run(**plain(case))
    return {"command": {"update": {"log": ["new"]}}, "checkpoint_id": origin(case, "b")}


def fork_and_resume(case: Case) -> dict[str, Any]:
    """Answer once more a question that was answered before."""
    case.run(**plain(case))
    case.run(command={"resume": "no"})
    return {"command": {"resume": "yes"}, "checkpoint_id": origin(case, "ask")}


def left_behind(case: Case) -> dict[str, Any]:
    """Ask, and then ask on another branch. Returns the checkpoint of the first questions."""
    case.run(**plain(case))
    first, *_, start = [state["checkpoint"]["checkpoint_id"] for state in case.history()]
    case.run(input=case.course.input(log=["other"]), checkpoint_id=start)
    return {"checkpoint_id": first}


def fork_and_answer(case: Case) -> dict[str, Any]:
    """Answer a question that the newest branch of the thread knows nothing of."""
    return {**left_behind(case), "command": {"resume": "yes"}}


def fork_answer_and_update(case: Case) -> dict[str, Any]:
    return {**left_behind(case), "command": {"resume": "yes", "update": {"log": ["new"]}}}


def fork_and_answer_by_id(case: Case) -> dict[str, Any]:
    place = left_behind(case)
    state = case.workers.system.get(f"/threads/{case.thread_id}/state/{place['checkpoint_id']}")
    return {**place, "command": {"resume": {each["id"]: "yes" for each in state["interrupts"]}}}


def second_turn(case: Case) -> dict[str, Any]:
    case.run(**plain(case))
    return {"input": {"log": ["other"]}}


def resume_in_second_turn(case: Case) -> dict[str, Any]:
    resume(case)
    case.run(command={"resume": "no"})
    case.run(input={"log": ["other"]})
    return {"command": {"resume": "yes"}}


def resume_below(case: Case) -> dict[str, Any]:
    """Answer where the child's checkpoint is named."""
    case.run(**plain(case))
    state = case.state()
    [task] = state["tasks"]
    below = task["state"]["checkpoint"]
    places = {"": state["checkpoint"]["checkpoint_id"]}
    places[below["checkpoint_ns"]] = below["checkpoint_id"]
    return {
        "command": {"resume": "yes"},
        "checkpoint": {**state["checkpoint"], "checkpoint_map": places},
    }


def answer_left(case: Case) -> dict[str, Any]:
    """Answer one of two questions by its id; the other is asked again at once."""
    case.run(**plain(case))
    [left] = [each["id"] for each in case.state()["interrupts"] if each["value"] == "l1"]
    return {"command": {"resume": {left: "yes"}}}


KINDS: list[tuple[str, Start]] = [
    ("line", plain),
    ("line", goto_and_update),
    ("line", fork),
    ("line", fork_with_input),
    ("line", fork_with_update),
    ("parallel", plain),
    ("nested", plain),
    ("nested", fork),
    ("one_question", update),
    ("one_question", update_and_resume),
    ("one_question", fork_and_resume),
    ("one_question", fork_and_answer),
    ("one_question", fork_answer_and_update),
    ("two_in_one", fork_and_answer),
    ("two_in_two", fork_and_answer),
    ("two_below", fork_and_answer),
    ("two_beside", fork_and_answer_by_id),
    ("two_in_one", resume),
    ("two_in_one", resume_by_id),
    ("two_in_two", resume),
    ("two_below", resume),
    ("two_below", resume_by_id),
    ("two_beside", answer_left),
    ("two_below", resume_below),
    ("stateful", plain),
    ("stateful", second_turn),
    ("stateful", fork),
    ("stateful_question", resume),
    ("stateful_question", resume_in_second_turn),
]


#: With a checkpointer of the operator's own.
OWN_KINDS: list[tuple[str, Start]] = [
    ("two_below", resume),
    ("line", plain),
    ("stateful", second_turn),
    ("nested", fork),
    ("two_in_one", resume),
    ("one_question", fork_and_answer),
]


def points(commits: int) -> list[int]:
    """Before which commits to kill: in a long test all of them; else one that is always the same, and the end's."""
    some = [*range(2, commits)] if SEEDS > 1 else [random.Random(commits).randint(2, commits)]
    return [*some, AT_THE_END]


def cases() -> Iterator[Any]:
    """Every kind with every durability; in a short test the others in turns, but those that ask in a row with all."""
    for n, (graph, start) in enumerate(KINDS):
        for m, durability in enumerate(("sync", "async", "exit")):
            is_short = m == n % 3 or start is resume
            marks = () if is_short else pytest.mark.long
            name = f"{graph}-{start.__name__}-{durability}"
            yield pytest.param(graph, start, durability, id=name, marks=marks)


def own_cases() -> Iterator[Any]:
    """Some kinds with every durability; in a short test the first of them, each with another."""
    for n, (graph, start) in enumerate(OWN_KINDS):
        for m, durability in enumerate(("async", "sync", "exit")):
            marks = () if m == n else pytest.mark.long
            name = f"{graph}-{start.__name__}-{durability}"
            yield pytest.param(graph, start, durability, id=name, marks=marks)


@pytest.mark.parametrize(("graph", "start", "durability"), list(cases()))
def test_a_crash(crew: Workers, tmp_path: Path, graph: str, start: Start, durability: str) -> None:
    check(crew, tmp_path, graph, start, durability)


@pytest.mark.parametrize(("graph", "start", "durability"), list(own_cases()))
def test_a_crash__with_a_checkpointer_of_the_operators_own(
    own_crew: Workers, tmp_path: Path, graph: str, start: Start, durability: str
) -> None:
    check(own_crew, tmp_path, graph, start, durability)


def check(crew: Workers, tmp_path: Path, graph: str, start: Start, durability: str) -> None:
    """Whatever commit the process is killed before, everything ends as if it had not been."""

    def new(name: str) -> Case:
        folder = tmp_path / name
        folder.mkdir()
        case = Case(crew, graph, Course(folder))
        case.create(
            **start(case), durability=durability, stream_resumable=True, stream_mode="tasks"
        )
        return case

    undisturbed = new("undisturbed")
    commits = undisturbed.attempt()
    expected = undisturbed.result()

    for fatal in points(commits):
        case = new(str(fatal))
        killed = not case.attempt(fatal=fatal)
        assert killed or fatal != AT_THE_END
        finished, noted = case.finished(), len(case.course.journal())
        if killed:
            case.rescue()
            assert case.attempt()

        assert case.result() == expected, f"killed before commit {fatal} of {commits}"
        assert not finished & set(case.course.journal()[noted:])
