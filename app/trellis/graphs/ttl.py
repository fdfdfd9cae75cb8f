"""Reads `checkpointer.ttl` of langgraph.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trellis.domain.ttl import ThreadTtl, Ttl
from trellis.errors import ConfigError

#: Ten years, as in the API.
_LONGEST_MINUTES = 5_256_000


def _is_minutes(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 < value <= _LONGEST_MINUTES
    )


def _is_limit(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


_MINUTES = (f"minutes: a number above 0 and up to {_LONGEST_MINUTES}", _is_minutes)
#: What each key takes, in words and as a test.
_KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "strategy": ('"delete" or "keep_latest"', lambda value: value in ("delete", "keep_latest")),
    "default_ttl": _MINUTES,
    "sweep_interval_minutes": _MINUTES,
    "sweep_limit": ("a whole number above 0", _is_limit),
}


def parse(where: str, checkpointer: object) -> ThreadTtl:
    """
    Read `ttl` of the key `checkpointer`; absent or null is the default. `where` is the file, for messages.

    :raises ConfigError: names the key and what it takes.
    """
    if checkpointer is not None and not isinstance(checkpointer, dict):
        raise ConfigError(f'{where}: "checkpointer" takes an object')
    raw = (checkpointer or {}).get("ttl")
    if raw is not None and not isinstance(raw, dict):
        raise ConfigError(f'{where}: "checkpointer.ttl" takes an object')
    given = {key: value for key, value in (raw or {}).items() if value is not None}
    for key, value in given.items():
        _check(f'{where}: "checkpointer.ttl', key, value)
    minutes, strategy = given.pop("default_ttl", None), given.pop("strategy", "delete")
    default = Ttl(minutes=float(minutes), strategy=strategy) if minutes is not None else None
    return ThreadTtl(default=default, **given)


def _check(at: str, key: str, value: object) -> None:
    if key not in _KEYS:
        raise ConfigError(f'{at}": unknown key "{key}". It takes: {", ".join(_KEYS)}')
    takes, is_right = _KEYS[key]
    if not is_right(value):
        raise ConfigError(f'{at}.{key}" takes {takes}')
