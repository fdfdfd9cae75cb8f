"""Reads `checkpointer` of langgraph.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trellis.domain.checkpointer import CheckpointerSettings
from trellis.errors import ConfigError
from trellis.graphs.auth import TARGET
from trellis.graphs.options import Rule, an_object, checked, is_texts

_EVERYTHING = "; true would let a checkpoint name any code to run"


def _are_classes(value: object) -> bool:
    return isinstance(value, list) and all(is_texts(each) and len(each) >= 2 for each in value)


_SERDE: Mapping[str, Rule] = {
    "allowed_msgpack_modules": (
        f'a list of classes as ["package.module", "Class"]{_EVERYTHING}',
        lambda value: _are_classes(value) and all(len(each) == 2 for each in value),
    ),
    "allowed_json_modules": (
        f'a list of classes as ["package", "module", "Class"]{_EVERYTHING}',
        _are_classes,
    ),
    "pickle_fallback": (
        "false: whoever can write a pickle can run code",
        lambda value: value is False,
    ),
}


def parse(where: str, raw: object) -> CheckpointerSettings:
    """
    Read the key; absent or null is the default. `where` is the file, for messages.

    :raises ConfigError: names the key and what it takes.
    """
    at = f'{where}: "checkpointer'
    known = an_object(f'{at}"', raw, ("path", "backend", "ttl", "serde"))
    serde = checked(f'{at}.serde"', known.get("serde"), _SERDE)
    return CheckpointerSettings(allowed=_allowed(serde), path=_path(at, known))


def _path(at: str, known: Mapping[str, Any]) -> str | None:
    """Where the operator's own checkpointer is. A path alone means one of one's own."""
    backend, path = known.get("backend"), known.get("path")
    if backend not in (None, "default", "custom"):
        raise ConfigError(
            f'{at}.backend" takes "default" (Postgres) or "custom", which "path" names; {backend!r} is not supported'
        )
    if path is None and backend == "custom":
        raise ConfigError(f'{at}.path" is missing: with the backend "custom" it takes {TARGET}')
    if path is not None and backend == "default":
        raise ConfigError(f'{at}.path" needs the backend "custom": "default" is Postgres')
    if path is not None and not isinstance(path, str):
        raise ConfigError(f'{at}.path" takes a text: {TARGET}')
    return path


def _allowed(serde: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """
    The classes of both lists.

    Nothing is stored as LangChain's JSON here, so that its list names classes like the other one: those that a state
    may hold.
    """
    named = [*serde.get("allowed_msgpack_modules", ()), *serde.get("allowed_json_modules", ())]
    return tuple((".".join(each[:-1]), each[-1]) for each in named)
