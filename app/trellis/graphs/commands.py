"""A client's command as LangGraph's. Imports langgraph: the web process loads this only when it needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langgraph.types import Command, Send


def command_of(raw: Mapping[str, Any]) -> Command[Any]:
    """A client's command as LangGraph's."""
    update = raw.get("update")
    if isinstance(update, list):
        update = [tuple(pair) for pair in update]
    fields = {"update": update, "resume": raw.get("resume"), "goto": _goto(raw.get("goto"))}
    return Command(**{key: value for key, value in fields.items() if value is not None})


def says_nothing(raw: Mapping[str, Any]) -> bool:
    """Whether a client's command changes nothing. LangGraph trips over one."""
    return raw.get("resume") is None and not raw.get("update") and not raw.get("goto")


def _goto(raw: Any) -> Any:
    if isinstance(raw, Mapping):
        return Send(raw["node"], raw.get("input"))
    if isinstance(raw, list):
        return [_goto(item) for item in raw]
    return raw
