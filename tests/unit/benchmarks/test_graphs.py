"""The graphs give what the client takes for a right answer."""

import asyncio
import importlib.util
import json
from pathlib import Path

import pytest

import benchmarks
from benchmarks.client import ANSWERS, INPUTS, TOKENS

GRAPHS = Path(benchmarks.__file__).parent / "graphs"


@pytest.fixture(scope="module")
def graphs():
    spec = importlib.util.spec_from_file_location("bench_graphs", GRAPHS / "bench_graphs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_manifest__names_graphs_that_exist(graphs):
    manifest = json.loads((GRAPHS / "langgraph.json").read_text())

    for name, target in manifest["graphs"].items():
        assert target == f"./bench_graphs.py:{name}"
        assert hasattr(graphs, name)


@pytest.mark.parametrize("name", ["echo", "ten", "cpu"])
def test_answer(graphs, name):
    values = asyncio.run(getattr(graphs, name).ainvoke(INPUTS[name]))

    assert ANSWERS[name].decode() in str(values)


def test_tokens__are_streamed_one_by_one(graphs):
    async def contents() -> list[str]:
        stream = graphs.tokens.astream(INPUTS["tokens"], stream_mode="messages")
        return [chunk.content async for chunk, _ in stream]

    found = asyncio.run(contents())

    assert len([text for text in found if text]) == TOKENS
