"""The tree of a run's graphs, from its log."""

from __future__ import annotations

from typing import Any

from trellis.protocol.tree import tree
from trellis.stream import encoder, sse
from trellis.stream.entries import GAP, End, Event, Item

CHILD, DEEP, OTHER = ("child:1",), ("child:1", "deep:2"), ("other:3",)


def said(event: str, namespace: tuple[str, ...], *, fence: int = 1) -> Event:
    name = "|".join(("lifecycle", *namespace))
    return Event(b"1-1", name, sse.frame(name, encoder.dumps({"event": event})), fence)


def node(status: str, namespace: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    name = namespace[-1].partition(":")[0] if namespace else "root"
    return {"namespace": list(namespace), "status": status, "graph_name": name, **more}


def test_tree__without_subgraphs() -> None:
    log: list[Item] = [Event(b"1-1", "values", sse.frame("values", b"{}"), 1), GAP]

    assert tree("root", "running", log) == node("running")
    assert tree("root", "completed", []) == node("completed")


def test_tree__each_below_the_one_that_started_it() -> None:
    log = [
        said("started", CHILD),
        said("started", DEEP),
        said("completed", DEEP),
        said("started", OTHER),
        said("failed", OTHER),
    ]

    children = [
        node("running", CHILD, children=[node("completed", DEEP)]),
        node("failed", OTHER),
    ]
    assert tree("root", "running", log) == node("running", children=children)


def test_tree__one_whose_end_nobody_told_is_as_far_as_the_run() -> None:
    log = [said("started", CHILD), End("interrupted", None)]

    assert tree("root", "interrupted", log)["children"] == [node("interrupted", CHILD)]


def test_tree__a_subgraph_whose_parent_is_unknown() -> None:
    """The start of the log may have been trimmed."""
    assert tree("root", "running", [said("completed", DEEP)]) == node(
        "running", children=[node("completed", DEEP)]
    )


def test_tree__the_next_attempt_begins_again_what_was_not_over() -> None:
    log = [said("started", CHILD), said("completed", CHILD), said("started", OTHER)]

    later = Event(b"2-1", "metadata", sse.frame("metadata", b"{}"), 2)

    assert tree("root", "running", [*log, later])["children"] == [node("completed", CHILD)]
    again = [*log, later, said("started", OTHER, fence=2)]
    assert [each["status"] for each in tree("root", "running", again)["children"]] == [
        "completed",
        "running",
    ]


def test_tree__of_graphs_that_call_themselves() -> None:
    places = [tuple(f"again:{n}" for n in range(depth)) for depth in range(1, 300)]

    told = tree("root", "running", [said("started", each) for each in places])

    assert encoder.dumps(told).count(b'"children"') == 100
