"""Checks an object of langgraph.json against the keys that it may have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trellis.errors import ConfigError

#: What each key takes, in words and as a test.
Keys = Mapping[str, tuple[str, Callable[[Any], bool]]]


def is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def is_number(value: Any) -> bool:
    """A number of seconds, or of things: above 0, and no more than there are seconds in a day."""
    return isinstance(value, int | float) and not is_flag(value) and 0 < value <= 86_400


def checked(at: str, raw: object, keys: Keys) -> dict[str, Any]:
    """
    The keys that are given; null is as good as absent. `at` is the place, with its quote still open.

    :raises ConfigError: names the key and what it takes.
    """
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f'{at}" takes an object')
    given = {key: value for key, value in raw.items() if value is not None}
    for key, value in given.items():
        if key not in keys:
            raise ConfigError(f'{at}": unknown key "{key}". It takes: {", ".join(keys)}')
        takes, is_right = keys[key]
        if not is_right(value):
            raise ConfigError(f'{at}.{key}" takes {takes}')
    return given
