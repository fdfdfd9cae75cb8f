"""What langgraph.json says of checkpoints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckpointerSettings:
    """`checkpointer` of langgraph.json."""

    #: Module and name of each class that may be rebuilt from a checkpoint, beside those that the graphs' schemas name.
    allowed: tuple[tuple[str, str], ...] = ()
    path: str | None = None  #: where the operator's own checkpointer is
