"""The same turns, forks, answers and changes on our saver and on LangGraph's: the same threads."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Annotated, Any, TypedDict

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send, interrupt

from trellis.db.checkpoints import Cache, DirectBackend
from trellis.db.checkpoints.saver import Saver
from trellis.db.serde import serializer
from trellis.domain.ids import new_id

LONG = "a line of some length " * 20


class State(TypedDict):
    log: Annotated[list[str], operator.add]
    note: str


def built() -> Any:
    """Parallel tasks, one of which asks twice inside a subgraph, and sends."""

    def ask(state: State) -> dict[str, Any]:
        first = interrupt(f"first {len(state['log'])}")
        second = interrupt(f"second {first}")
        return {"log": [f"{first} {second}"]}

    def route(state: State) -> list[Send]:
        return [Send("sent", {"log": [], "note": f"{n}"}) for n in range(len(state["log"]) % 3)]

    inner = StateGraph(State, output_schema=State).add_node("ask", ask).add_edge(START, "ask")
    outer = StateGraph(State).add_node(
        "plain", lambda state: {"log": [LONG + str(len(state["log"]))]}
    )
    outer.add_node("inner", lambda state: {"log": sub.invoke({"log": [], "note": ""})["log"]})
    outer.add_node("sent", lambda state: {"log": [f"sent {state['note']}"]})
    outer.add_node("last", lambda state: {"note": f"{len(state['log'])} {LONG}"})
    sub = inner.compile()
    outer.add_edge(START, "plain").add_edge(START, "inner")
    outer.add_edge(["plain", "inner"], "last").add_conditional_edges("last", route, ["sent", END])
    return outer.compile()


GRAPH = built()

steps = st.lists(
    st.tuples(
        st.sampled_from(["turn", "answer", "go on", "fork", "update", "clone"]),
        st.integers(0, 10**6),
        st.sampled_from(["sync", "async", "exit"]),
    ),
    min_size=1,
    max_size=9,
)


def of(thread_id: str, **more: Any) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, **more}}


def play(
    new_saver: Callable[[], Any], thread_id: str, history: list[tuple[str, int, Any]]
) -> list[Any]:
    """What each step says, then what the thread has become. A checkpoint is named by its place."""
    told: list[Any] = []
    for action, n, durability in history:
        graph = GRAPH.copy({"checkpointer": new_saver()})
        there = list(graph.get_state_history(of(thread_id)))
        head: Any = of(thread_id)
        if there and action in ("fork", "update", "clone") and n % 2:
            head = of(
                thread_id,
                checkpoint_ns="",
                checkpoint_id=there[n % len(there)].config["configurable"]["checkpoint_id"],
            )
        try:
            if action in ("update", "clone"):
                values = {"log": [f"update {n}"]} if action == "update" else None
                as_node = "plain" if action == "update" else "__copy__"
                graph.update_state(head, values, as_node=as_node)
            else:
                starts = {"turn": {"log": [f"turn {n}"]}, "answer": answer(graph, thread_id, n)}
                said = graph.invoke(starts.get(action), head, durability=durability)
                told.append(plain(said))
        except Exception as error:
            told.append(type(error).__name__)
        told.append(thread_of(graph, thread_id))
    return told


def answer(graph: Any, thread_id: str, n: int) -> Command[Any] | None:
    """
    By the questions' ids: an answer without one LangGraph's saver gives to the next question, too, when it goes on.

    Ours asks that one (`answers.py`). None: nothing is asked.
    """
    asked = graph.get_state(of(thread_id)).interrupts
    return Command(resume={each.id: f"yes {n}" for each in asked}) if asked else None


def plain(values: Any) -> Any:
    if not isinstance(values, dict):
        return values
    asked = sorted(str(each.value) for each in values.get("__interrupt__", ()))
    return {**values, "__interrupt__": asked}


def thread_of(graph: Any, thread_id: str) -> list[Any]:
    found = list(graph.get_state_history(of(thread_id)))
    place = {
        each.config["configurable"]["checkpoint_id"]: n for n, each in enumerate(reversed(found))
    }
    pages = []
    for n in (0, len(found) // 2):
        if n < len(found):
            page = graph.get_state_history(of(thread_id), before=found[n].config, limit=3)
            pages.append([place[each.config["configurable"]["checkpoint_id"]] for each in page])
    inputs = list(graph.get_state_history(of(thread_id), filter={"source": "input"}))
    return [
        [
            (
                each.values,
                each.next,
                {k: v for k, v in each.metadata.items() if k in ("source", "step")},
                each.parent_config and place[each.parent_config["configurable"]["checkpoint_id"]],
                sorted(
                    (t.name, str(t.path), [i.value for i in t.interrupts], t.result)
                    for t in each.tasks
                ),
            )
            for each in found
        ],
        pages,
        [place[each.config["configurable"]["checkpoint_id"]] for each in inputs],
    ]


@settings(
    max_examples=40,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(steps)
def test_history__is_that_of_langgraphs_saver(
    backend: DirectBackend, history: list[tuple[str, int, Any]]
) -> None:
    cache, serde, thread_id = Cache(), serializer(), new_id()

    ours = play(lambda: Saver(backend, serde=serde, cache=cache), thread_id, history)

    memory = InMemorySaver()
    assert ours == play(lambda: memory, thread_id, history)
