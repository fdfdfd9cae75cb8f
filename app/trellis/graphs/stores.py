"""Reads `store` of langgraph.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis.domain.store import MAX_TTL_MINUTES, StoreIndex, StoreSettings, StoreTtl
from trellis.errors import ConfigError
from trellis.graphs.auth import TARGET
from trellis.graphs.options import Rule, an_object, checked, is_number, is_texts, is_whole

_MINUTES: Rule = (
    f"a number of minutes above 0, {MAX_TTL_MINUTES} at most",
    lambda value: is_number(value) and 0 < value <= MAX_TTL_MINUTES,
)
_FLAG: Rule = ("true or false", lambda value: isinstance(value, bool))

_TTL: Mapping[str, Rule] = {
    "default_ttl": _MINUTES,
    "refresh_on_read": _FLAG,
    "sweep_interval_minutes": _MINUTES,
    "omit_expired": ("true: an expired item is never shown", lambda value: value is True),
}
_INDEX: Mapping[str, Rule] = {
    "embed": (
        'a text: "provider:model", "path/to/file.py:variable" or "module.name:variable"',
        lambda value: isinstance(value, str) and all(value.partition(":")),
    ),
    # pgvector's limit.
    "dims": ("a whole number from 1 to 16000", lambda v: is_whole(v) and 1 <= v <= 16_000),
    "fields": (
        'a list of paths, such as "text" or "$" for the whole item',
        lambda value: is_texts(value) and bool(value),
    ),
}


def parse(where: str, raw: object) -> StoreSettings:
    """
    Read the key; absent or null is the default. `where` is the file, for messages.

    :raises ConfigError: names the key and what it takes.
    """
    at = f'{where}: "store'
    known = an_object(f'{at}"', raw, ("index", "ttl", "path"))
    if known.get("path") is not None:
        return _own(at, known)
    return StoreSettings(
        ttl=_ttl(checked(f'{at}.ttl"', known.get("ttl"), _TTL)),
        index=_index(at, checked(f'{at}.index"', known.get("index"), _INDEX)),
    )


def _own(at: str, known: Mapping[str, Any]) -> StoreSettings:
    if not isinstance(known["path"], str):
        raise ConfigError(f'{at}.path" takes a text: {TARGET}')
    for key in ("index", "ttl"):
        if known.get(key):
            raise ConfigError(
                f'{at}.{key}" is for the store in Postgres, not for one of your own ("store.path"): '
                "remove it, and give it to your store where you make it"
            )
    return StoreSettings(path=known["path"])


def _ttl(given: Mapping[str, Any]) -> StoreTtl:
    return StoreTtl(
        default_minutes=given.get("default_ttl"),
        refresh_on_read=given.get("refresh_on_read", True),
        sweep_minutes=given.get("sweep_interval_minutes"),
    )


def _index(at: str, given: Mapping[str, Any]) -> StoreIndex | None:
    if not given:
        return None
    for key in ("embed", "dims"):
        if key not in given:
            raise ConfigError(f'{at}.index" needs "{key}": {_INDEX[key][0]}')
    fields = tuple(given.get("fields", ("$",)))
    return StoreIndex(embed=given["embed"], dims=given["dims"], fields=fields)
