"""LangGraph's own suite for checkpointers, complete."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import Capability

from trellis.db.checkpoints import Cache, DirectBackend
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
