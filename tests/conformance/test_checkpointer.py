"""LangGraph's own suite for checkpointers, complete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import closing

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability
from langgraph.checkpoint.memory import InMemorySaver
from sqlalchemy import Engine

from trellis.db.checkpoints import Cache, Contents, DirectBackend
from trellis.db.checkpoints.contents import equipped
from trellis.db.checkpoints.own import OwnSaver
from trellis.db.checkpoints.saver import Saver
from trellis.db.serde import serializer


@pytest.mark.parametrize("cache", [None, Cache()], ids=["uncached", "cached"])
def test_every_capability__is_there_and_passes(backend: DirectBackend, cache: Cache | None) -> None:
    @checkpointer_test(name="trellis")
    async def savers() -> AsyncGenerator[Saver, None]:
        yield Saver(backend, serde=serializer(), cache=cache)

    report = asyncio.run(validate(savers))
    assert report.results.keys() == {capability.value for capability in Capability}
    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    assert all(result.detected and result.passed for result in report.results.values())
    assert all(result.tests_passed > 0 for result in report.results.values())
    assert report.conformance_level() == "FULL"


def test_every_capability__where_the_operator_has_a_checkpointer_of_their_own(
    engine: Engine,
) -> None:
    @checkpointer_test(name="own")
    async def savers() -> AsyncGenerator[Saver, None]:
        contents = Contents()
        contents.open(InMemorySaver(), asyncio.get_running_loop())
        with closing(DirectBackend(equipped(engine, contents))) as backend:
            yield OwnSaver(backend, serde=serializer(), contents=contents)

    report = asyncio.run(validate(savers))

    failures = {name: result.failures for name, result in report.results.items() if result.failures}
    assert failures == {}
    assert report.conformance_level() == "FULL"
