"""The saver of an attempt after a crash."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph._internal._constants import (
    CONFIG_KEY_CHECKPOINT_MAP,
    CONFIG_KEY_CHECKPOINT_NS,
    CONFIG_KEY_RESUMING,
    INTERRUPT,
    NS_END,
    NS_SEP,
)
from langgraph.checkpoint.base import CheckpointTuple

from trellis.db.checkpoints import Contents
from trellis.db.checkpoints.own import OwnSaver
from trellis.db.checkpoints.saver import Saver
from trellis.db.runs import Claimed


class ResumptionSaver(Saver):
    """
    Tells a subgraph that keeps its state over turns whether it was reached before the crash, and where a fork began.

    A graph that goes on has its subgraphs go on as well. One whose newest checkpoint is of an earlier turn has
    nothing to go on with: LangGraph would take the end of that turn for its result, and drop what it was given now.
    In a fork such a subgraph starts from what it was there, which LangGraph knows in the first attempt only.
    """

    def __init__(self, *args: Any, run: Claimed, **kwargs: Any) -> None:
        super().__init__(*args, claim=run.claim, **kwargs)
        self._run_id = run.claim.run_id
        self._is_answering = "resume" in (run.kwargs["command"] or {})
        self._origin = run.kwargs["config"]["configurable"].get("checkpoint_id")

    def get_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = super().get_tuple(config)
        if found and self._is_of_another_branch(config, found):
            found = next(self.list(config, before=self._before(), limit=1), None)
        _begin_unless_reached(config, found, is_answering=self._is_answering)
        return found

    async def aget_tuple(self, config: RunnableConfig) -> CheckpointTuple | None:
        found = await super().aget_tuple(config)
        if found and self._is_of_another_branch(config, found):
            found = await anext(self.alist(config, before=self._before(), limit=1), None)
        _begin_unless_reached(config, found, is_answering=self._is_answering)
        return found

    def _is_of_another_branch(self, config: RunnableConfig, found: CheckpointTuple) -> bool:
        if not self._origin or self._is_answering or not _keeps_state(config):
            return False
        return found.metadata.get("run_id") != self._run_id

    def _before(self) -> RunnableConfig:
        return {"configurable": {"checkpoint_id": self._origin}}


class OwnResumptionSaver(ResumptionSaver, OwnSaver):
    """The same where the operator's own checkpointer holds the values."""


def new_own_saver(run: Claimed, contents: Contents, *, continues: bool) -> Callable[..., OwnSaver]:
    """What makes the saver of an attempt whose values the operator's own checkpointer holds."""
    if continues:
        return partial(OwnResumptionSaver, run=run, contents=contents)
    return partial(OwnSaver, claim=run.claim, contents=contents)


def _begin_unless_reached(
    config: RunnableConfig, found: CheckpointTuple | None, *, is_answering: bool
) -> None:
    configurable = config["configurable"]
    if not configurable.get(CONFIG_KEY_RESUMING) or not _keeps_state(config) or found is None:
        return
    was_reached = found.metadata.get("parents") == configurable.get(CONFIG_KEY_CHECKPOINT_MAP)
    if not was_reached and not (is_answering and _asks(found)):
        # LangGraph reads it after the checkpoint, and itself takes it out where it replays.
        del configurable[CONFIG_KEY_RESUMING]


def _keeps_state(config: RunnableConfig) -> bool:
    """Whether it is the namespace of a node, not of one task of it."""
    namespace: str = config["configurable"].get(CONFIG_KEY_CHECKPOINT_NS, "")
    return bool(namespace) and NS_END not in namespace.split(NS_SEP)[-1]


def _asks(found: CheckpointTuple) -> bool:
    return any(channel == INTERRUPT for _, channel, _ in found.pending_writes or ())
