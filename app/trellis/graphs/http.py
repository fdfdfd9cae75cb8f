"""Reads `http` of langgraph.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from trellis.domain.http import ANYBODY, SECRET_HEADERS, Cors, Headers, HttpConfig
from trellis.errors import ConfigError
from trellis.graphs.auth import TARGET
from trellis.graphs.keys import Keys, checked, is_flag, is_number, is_texts

#: Groups of routes that can be switched off. Of the last four this version has no routes.
GROUPS = ("assistants", "threads", "runs", "store", "meta", "webhooks", "mcp", "a2a", "ui")

_PREFIX = re.compile(r"(/[\w.~-]+)+")
#: As browsers send it: no path, and no slash at the end.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@]+")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_pattern(value: Any) -> bool:
    try:
        return _is_text(value) and bool(re.compile(value))
    except re.error:
        return False


_KEYS: Keys = {
    "app": (TARGET, _is_text),
    **{f"disable_{group}": ("true or false", is_flag) for group in GROUPS},
    "cors": ("an object", _is_object),
    "configurable_headers": ("an object with includes and excludes", _is_object),
    "logging_headers": ("an object with includes and excludes", _is_object),
    "middleware_order": (
        '"middleware_first" or "auth_first"',
        lambda value: value in ("middleware_first", "auth_first"),
    ),
    "enable_custom_route_auth": ("true or false", is_flag),
    "mount_prefix": (
        'a path such as "/api/agents"',
        lambda value: _is_text(value) and bool(_PREFIX.fullmatch(value)),
    ),
}
_CORS: Keys = {
    "allow_origins": ("a list of origins", is_texts),
    "allow_origin_regex": ("a regular expression", _is_pattern),
    "allow_methods": ("a list of methods", is_texts),
    "allow_headers": ("a list of header names", is_texts),
    "allow_credentials": ("true or false", is_flag),
    "expose_headers": ("a list of header names", is_texts),
    "max_age": (
        "a whole number of seconds, up to a day",
        lambda value: is_number(value) and isinstance(value, int),
    ),
}
_PATTERNS = "a list of header names, with * for any part"
_HEADERS: Keys = {"includes": (_PATTERNS, is_texts), "excludes": (_PATTERNS, is_texts)}


def parse(where: str, raw: object, *, environ: Mapping[str, str]) -> HttpConfig:
    """
    Read the key; absent or null is the default. MOUNT_PREFIX and CORS_ALLOW_ORIGINS count where it has no word on it.

    :raises ConfigError: names the key or the variable, and what it takes.
    """
    at = f'{where}: "http'
    given = checked(at, raw, _KEYS)
    mount_prefix = environ.get("MOUNT_PREFIX", "")
    if mount_prefix and not _PREFIX.fullmatch(mount_prefix):
        raise ConfigError('MOUNT_PREFIX takes a path such as "/api/agents"')
    open_cors = _open_cors(environ.get("CORS_ALLOW_ORIGINS", ""))
    return HttpConfig(
        app=given.get("app"),
        disabled=frozenset(group for group in GROUPS if given.get(f"disable_{group}")),
        cors=_cors(f"{at}.cors", given["cors"]) if "cors" in given else open_cors,
        configurable_headers=_headers(f"{at}.configurable_headers", given, stored=True),
        logging_headers=_headers(f"{at}.logging_headers", given, stored=False),
        auth_first=given.get("middleware_order") == "auth_first",
        enable_custom_route_auth=given.get("enable_custom_route_auth", False),
        mount_prefix=given.get("mount_prefix", mount_prefix),
    )


def _open_cors(origins: str) -> Cors:
    """The default, for these origins only; empty: for any."""
    named = tuple(origin.strip() for origin in origins.split(",") if origin.strip())
    if wrong := [each for each in named if each != "*" and not _ORIGIN.fullmatch(each)]:
        raise ConfigError(
            f"CORS_ALLOW_ORIGINS takes origins such as https://example.com between commas, or *, not {wrong[0]!r}"
        )
    return ANYBODY if not named or "*" in named else replace(ANYBODY, allow_origins=named)


def _cors(at: str, raw: object) -> Cors:
    given = checked(at, raw, _CORS)
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    cors = Cors(**fields)
    if cors.allow_credentials and "*" in cors.allow_origins:
        raise ConfigError(
            f'{at}.allow_credentials": any site could act as the user. Name the origins instead of "*"'
        )
    return cors


def _headers(at: str, given: dict[str, Any], *, stored: bool) -> Headers:
    raw = checked(at, given.get(at.rpartition(".")[2]), _HEADERS)
    patterns = {key: tuple(text.lower() for text in value) for key, value in raw.items()}
    if secret := sorted(SECRET_HEADERS.intersection(patterns.get("includes", ()))):
        where = "stored with the run, where others may read it" if stored else "in the log"
        raise ConfigError(f'{at}.includes": {secret[0]} would be {where}. Leave it out')
    return Headers(**patterns)
