"""Which part of a long answer a client asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """A slice of an ordered list. Whoever looks for a next page asks for one row more."""

    limit: int
    offset: int
    sort_by: str
    sort_order: Literal["asc", "desc"]
