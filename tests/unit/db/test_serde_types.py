"""Which classes a graph's schemas name."""

import dataclasses
import datetime
import typing
from enum import Enum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID

import typing_extensions
from langchain_core.messages import HumanMessage
from langgraph.func import entrypoint
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel

from trellis.db.state_types import state_types

T = TypeVar("T")


class Colour(Enum):
    RED = 1


class Mode(Enum):
    ON = 1


class Leaf(BaseModel):
    n: int


class Shape(BaseModel):
    leaf: Leaf | None = None


class Circle(Shape):
    radius: int = 1


class Box(BaseModel, Generic[T]):
    content: T


@dataclasses.dataclass
class Node:
    shape: Shape
    children: "list[Node]"
    colours: dict[str, Colour]


class Pair(NamedTuple):
    left: Leaf
    right: int


class Inner(typing_extensions.TypedDict):
    pair: Pair


class Context(BaseModel):
    user: str


Id = NewType("Id", Leaf)


class State(MessagesState):
    node: Annotated[list[Node], lambda left, right: right]
    inner: Inner
    mode: Literal[Mode.ON]
    box: Box[Circle]
    when: datetime.datetime
    identifier: Id
    anything: Any
    ids: set[UUID]


def nothing(_: State) -> dict[str, Any]:
    return {}


def build() -> Any:
    graph = StateGraph(State, context_schema=Context).add_node("n", nothing).add_edge(START, "n")
    return graph.compile()


def test_schema__is_searched_to_its_leaves() -> None:
    found = state_types(build())
    assert {Node, Shape, Leaf, Colour, Pair, Mode, Context, Box[Circle]} <= found


def test_class_in_a_schema__stands_for_its_subclasses() -> None:
    assert Circle in state_types(build())


def test_classes_that_are_no_data_of_the_state__are_not_named() -> None:
    found = state_types(build())
    assert not found & {State, Inner, BaseModel, object, dict, list, int, Any, Enum}


def test_subgraph__is_searched_too() -> None:
    class Outer(typing.TypedDict):
        x: int

    outer = StateGraph(Outer).add_node("inner", build()).add_edge(START, "inner").compile()
    assert {Node, Leaf, HumanMessage} <= state_types(outer)


def test_entrypoint__is_known_by_its_annotations() -> None:
    @entrypoint()
    async def flow(order: Shape) -> entrypoint.final[int, Node]:
        return entrypoint.final(value=1, save=Node(order, [], {}))

    assert {Shape, Circle, Node, Colour} <= state_types(flow)


def test_annotation_that_only_a_type_checker_sees__does_not_hide_the_others() -> None:
    @dataclasses.dataclass
    class Mixed:
        known: Leaf
        unknown: "NotImportedHere"  # type: ignore[name-defined]  # noqa: F821

    class Local(typing.TypedDict):
        mixed: Mixed

    graph = StateGraph(Local).add_node("n", nothing).add_edge(START, "n").compile()
    assert {Mixed, Leaf} <= state_types(graph)
