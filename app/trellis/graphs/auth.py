"""Reads `auth` of langgraph.json."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from trellis.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthConfig:
    """What the key says; the module is not imported yet."""

    path: str | None = None
    disable_studio_auth: bool = False
    openapi: Mapping[str, Any] = field(default_factory=dict)
    cache: Mapping[str, Any] | None = None


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 86_400


#: What each key takes, in words and as a test.
_KEYS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "path": ('"path/to/file.py:variable" or "module.name:variable"', lambda v: isinstance(v, str)),
    "disable_studio_auth": ("true or false", lambda v: isinstance(v, bool)),
    "openapi": ("an object with securitySchemes and security", lambda v: isinstance(v, dict)),
    "cache": ("an object", lambda v: isinstance(v, dict)),
}
_CACHE: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "cache_keys": ("a list of header names", _is_texts),
    "ttl_seconds": ("a number of seconds, up to a day", _is_number),
    "max_size": ("a whole number above 0", lambda v: _is_number(v) and isinstance(v, int)),
}


def parse(where: str, raw: object) -> AuthConfig:
    """
    Read the key; absent or null is nothing. `where` is the file, for messages.

    :raises ConfigError: names the key and what it takes.
    """
    at = f'{where}: "auth'
    given = _checked(at, raw, _KEYS)
    if given and "path" not in given:
        raise ConfigError(f'{at}.path" is missing: it takes {_KEYS["path"][0]}')
    if "cache" in given:
        given["cache"] = _checked(f"{at}.cache", given["cache"], _CACHE)
    return AuthConfig(**given)


def _checked(
    at: str, raw: object, keys: Mapping[str, tuple[str, Callable[[Any], bool]]]
) -> dict[str, Any]:
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
