"""Reads `webhooks` of langgraph.json."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from trellis.domain.webhooks import FIELDS, Policy, Webhooks
from trellis.errors import ConfigError
from trellis.graphs.options import Rule, an_object, checked, is_texts, is_whole

_PREFIX = "LG_WEBHOOK_"
_TEMPLATE = re.compile(r"\$\{\{\s*env\.(\w*)\s*\}\}")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
#: Ours to set, or the connection's.
_OURS = frozenset(
    [
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    ]
)

#: What each key of `webhooks.url` takes.
_URL: Mapping[str, Rule] = {
    "require_https": ("true or false", lambda value: isinstance(value, bool)),
    "disable_loopback": ("true or false", lambda value: isinstance(value, bool)),
    "max_url_length": ("a whole number above 0", lambda value: is_whole(value) and value > 0),
    "allowed_domains": (
        'a list of host names, such as "example.com" or "*.example.com"',
        is_texts,
    ),
    "allowed_ports": (
        "a list of port numbers",
        lambda value: isinstance(value, list) and all(is_whole(each) for each in value),
    ),
}


def parse(where: str, raw: object, *, http: object = None, environ: Mapping[str, str]) -> Webhooks:
    """
    Read the key, and the switch in `http`; absent or null is the default. `where` is the file, for messages.

    :raises ConfigError: names the key and what it takes, or the variable that is not set.
    """
    at = f'{where}: "webhooks'
    known = an_object(f'{at}"', raw, ("env_prefix", "url", "headers", "fields"))
    prefix = known.get("env_prefix", _PREFIX)
    if not isinstance(prefix, str) or not prefix:
        raise ConfigError(f'{at}.env_prefix" takes a text that variables begin with')
    headers = an_object(f'{at}.headers"', known.get("headers"), None)
    return Webhooks(
        policy=_policy(checked(f'{at}.url"', known.get("url"), _URL)),
        headers={
            name: _header(f'{at}.headers.{name}"', name, value, prefix=prefix, environ=environ)
            for name, value in headers.items()
        },
        fields=_fields(f'{at}.fields"', known.get("fields")),
        disabled=_disabled(where, http),
    )


def _fields(at: str, given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list) or not given or any(each not in FIELDS for each in given):
        raise ConfigError(f"{at} takes a list of at least one of: {', '.join(FIELDS)}")
    return tuple(given)


def _disabled(where: str, http: object) -> bool:
    value = http.get("disable_webhooks") if isinstance(http, dict) else None
    if value is not None and not isinstance(value, bool):
        raise ConfigError(f'{where}: "http.disable_webhooks" takes true or false')
    return bool(value)


def _policy(given: Mapping[str, Any]) -> Policy:
    fields: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    return Policy(**fields)


def _header(at: str, name: str, value: object, *, prefix: str, environ: Mapping[str, str]) -> str:
    def variable(match: re.Match[str]) -> str:
        if not match[1].startswith(prefix):
            raise ConfigError(f"{at} may use variables that begin with {prefix}, not {match[1]!r}")
        if match[1] not in environ:
            raise ConfigError(f"{at} uses the variable {match[1]}, which is not set")
        return environ[match[1]]

    if not _NAME.fullmatch(name) or name.lower() in _OURS:
        raise ConfigError(f"{at} is no name for a header of your own")
    if not isinstance(value, str):
        raise ConfigError(f"{at} takes a text")
    resolved = _TEMPLATE.sub(variable, value)
    if not _VALUE.fullmatch(resolved):
        raise ConfigError(f"{at} must be printable ASCII on one line")
    return resolved
