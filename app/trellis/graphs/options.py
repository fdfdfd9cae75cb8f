"""Checks of what langgraph.json holds; a message names the key and what it takes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from trellis.errors import ConfigError

#: What a key takes, in words and as a test.
Rule = tuple[str, Callable[[Any], bool]]


def an_object(at: str, raw: object, keys: Collection[str] | None) -> dict[str, Any]:
    """
    An object with no other keys than these (None: any); nothing is an empty one.

    :raises ConfigError: it is something else, or has another key.
    """
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise ConfigError(f"{at} takes an object")
    for key in raw:
        if keys is not None and key not in keys:
            raise ConfigError(f'{at}: unknown key "{key}". It takes: {", ".join(keys)}')
    return raw


def checked(at: str, raw: object, rules: Mapping[str, Rule]) -> dict[str, Any]:
    """
    An object whose keys keep these rules; those that are null are left out. `at` ends in a quote mark.

    :raises ConfigError: names the key and what it takes.
    """
    given = {key: v for key, v in an_object(at, raw, rules).items() if v is not None}
    for key, value in given.items():
        takes, is_right = rules[key]
        if not is_right(value):
            raise ConfigError(f'{at[:-1]}.{key}" takes {takes}')
    return given


def is_whole(value: object) -> bool:
    """Whether it is a whole number; true and false are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether it is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_texts(value: object) -> bool:
    """Whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
