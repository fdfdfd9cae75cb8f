"""Reads `checkpointer.ttl` of langgraph.json."""

from __future__ import annotations

from collections.abc import Mapping

from trellis.domain.ttl import ThreadTtl, Ttl
from trellis.graphs.options import Rule, an_object, checked, is_number, is_whole

#: Ten years, as in the API.
_LONGEST_MINUTES = 5_256_000


_MINUTES: Rule = (
    f"minutes: a number above 0 and up to {_LONGEST_MINUTES}",
    lambda value: is_number(value) and 0 < value <= _LONGEST_MINUTES,
)
_KEYS: Mapping[str, Rule] = {
    "strategy": ('"delete" or "keep_latest"', lambda value: value in ("delete", "keep_latest")),
    "default_ttl": _MINUTES,
    "sweep_interval_minutes": _MINUTES,
    "sweep_limit": ("a whole number above 0", lambda value: is_whole(value) and value > 0),
}


def parse(where: str, checkpointer: object) -> ThreadTtl:
    """
    Read `ttl` of the key `checkpointer`; absent or null is the default. `where` is the file, for messages.

    :raises ConfigError: names the key and what it takes.
    """
    known = an_object(f'{where}: "checkpointer"', checkpointer, None)
    given = checked(f'{where}: "checkpointer.ttl"', known.get("ttl"), _KEYS)
    minutes, strategy = given.pop("default_ttl", None), given.pop("strategy", "delete")
    default = Ttl(minutes=float(minutes), strategy=strategy) if minutes is not None else None
    return ThreadTtl(default=default, **given)
