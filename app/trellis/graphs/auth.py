"""Reads `auth` of langgraph.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from trellis.errors import ConfigError
from trellis.graphs.keys import Keys, checked, is_flag, is_number, is_texts

TARGET = '"path/to/file.py:variable" or "module.name:variable"'


@dataclass(frozen=True, kw_only=True, slots=True)
class AuthConfig:
    """What the key says; the module is not imported yet."""

    path: str | None = None
    disable_studio_auth: bool = False
    openapi: Mapping[str, Any] = field(default_factory=dict)
    cache: Mapping[str, Any] | None = None


_KEYS: Keys = {
    "path": (TARGET, lambda value: isinstance(value, str)),
    "disable_studio_auth": ("true or false", is_flag),
    "openapi": (
        "an object with securitySchemes and security",
        lambda value: isinstance(value, dict),
    ),
    "cache": ("an object", lambda value: isinstance(value, dict)),
}
_CACHE: Keys = {
    "cache_keys": ("a list of header names", is_texts),
    "ttl_seconds": ("a number of seconds, up to a day", is_number),
    "max_size": (
        "a whole number above 0",
        lambda value: is_number(value) and isinstance(value, int),
    ),
}


def parse(where: str, raw: object) -> AuthConfig:
    """
    Read the key; absent or null is nothing. `where` is the file, for messages.

    :raises ConfigError: names the key and what it takes.
    """
    at = f'{where}: "auth'
    given = checked(at, raw, _KEYS)
    if given and "path" not in given:
        raise ConfigError(f'{at}.path" is missing: it takes {TARGET}')
    if "cache" in given:
        given["cache"] = checked(f"{at}.cache", given["cache"], _CACHE)
    return AuthConfig(**given)
