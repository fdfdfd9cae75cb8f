"""The demo graphs: they need no key and no network, and do what their descriptions say."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from trellis.graphs import manifest as manifests
from trellis.graphs.registry import Registry
from unit.graphs.projects import compiled

DEMO = Path(__file__).parents[3] / "examples" / "demo"


@pytest.fixture
def demo(tmp_path: Path) -> Registry:
    """The demo as it is installed: package data in a folder without __init__.py."""
    folder = tmp_path / "site-packages" / "trellis" / "demo"
    shutil.copytree(DEMO, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return Registry(manifests.load(folder))


def said(demo: Registry, text: str) -> list[tuple[str, str]]:
    """What the agent streams in answer: (type of message, text) of each chunk."""

    async def stream() -> list[tuple[str, str]]:
        graph = compiled(demo, "agent")
        given = {"messages": [("user", text)]}
        return [
            (chunk.type, chunk.text)
            async for chunk, _ in graph.astream(given, stream_mode="messages")
        ]

    return asyncio.run(stream())


def test_demo__loads_and_is_described(demo: Registry) -> None:
    assert demo.load_all() == []
    assert list(demo.graph_ids) == ["agent", "approval", "echo"]
    assert all(spec.description for spec in demo.manifest.graphs.values())


def test_agent__streams_word_by_word(demo: Registry) -> None:
    chunks = [text for _, text in said(demo, "What is Trellis?") if text]

    assert len(chunks) > 20
    assert "".join(chunks).startswith("I am the demo agent of Trellis")
    assert all(len(chunk.split()) == 1 for chunk in chunks)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 12 * (3 + 4)?", "84"),
        ("-2*3.5 please", "-7"),
        ("123456789 * 1000", "123456789000"),
        ("1/0", "undefined: it divides by zero"),
    ],
)
def test_agent__calculates_with_a_tool(demo: Registry, question: str, answer: str) -> None:
    chunks = said(demo, question)

    assert ("tool", answer) in chunks
    assert "".join(text for kind, text in chunks if kind != "tool").endswith(f"That is {answer}.")


@pytest.mark.parametrize(
    "text", ["", "gibberish", "9 ** 9 ** 9", "(" * 5000, "1+" * 5000, "9-" * 99]
)
def test_agent__survives(demo: Registry, text: str) -> None:
    assert "".join(text for _, text in said(demo, text))


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        ({"approved": True, "note": "sorry"}, "Paid 120.00 EUR back for order B-7 (sorry)."),
        (True, "Paid 120.00 EUR back for order B-7."),
        ("yes", "Paid 120.00 EUR back for order B-7."),
        ({"approved": False}, "Declined order B-7; nothing was paid."),
        ({"approved": "no"}, "Declined order B-7; nothing was paid."),
        ("not yet", "Declined order B-7; nothing was paid."),
    ],
)
def test_approval(demo: Registry, answer: Any, result: str) -> None:
    graph = compiled(demo, "approval").copy({"checkpointer": InMemorySaver()})
    config = {"configurable": {"thread_id": "1"}}

    asked = graph.invoke({"order": "B-7", "amount": 120}, config)
    settled = graph.invoke(Command(resume=answer), config)

    (question,) = asked["__interrupt__"]
    assert question.value["question"] == "Refund 120.00 EUR for order B-7: arrived broken. Pay it?"
    assert "result" not in asked
    assert settled["result"] == result


def test_echo(demo: Registry) -> None:
    graph = compiled(demo, "echo")

    answer = asyncio.run(graph.ainvoke({"messages": [("user", "hello")]}))

    assert answer["messages"][-1].text == "echo: hello"
