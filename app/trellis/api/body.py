"""Request bodies and parameters, from bytes to checked values; whatever is wrong is a 422 here."""

from __future__ import annotations

import re
import threading
import uuid
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import orjson
from flask import g, request

from trellis.api.idempotency import HEADER
from trellis.domain.metadata import check_sent
from trellis.errors import Invalid

T = TypeVar("T")
#: Of what an id is.
Kind = Literal["thread", "run", "assistant", "cron"]

#: Deep nesting is cheap to send and expensive to walk.
MAX_DEPTH = 100
#: Of one object.
MAX_KEYS = 10_000
#: What fits Postgres's bigint with room to spare; a page beyond it does not exist.
MAX_OFFSET = 2**31 - 1
#: Beyond it a float stands for more than one integer.
MAX_WHOLE = 2**53

NUL = "contains the character U+0000, which cannot be stored. Remove it."
_BAD_JSON = "Invalid JSON in request body"
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_FRACTION = re.compile(r"^Expected `int[^,]*, got `float` - at `\$((?:\.\w+|\[\d+\])+)`$")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_AT = re.compile(r" - at `\$\.(\w+)(?:\[\d+\])?`$")
#: The types that have been used.
_known = set[Any]()
_getting_to_know = threading.Lock()


def json_body(into: type[T]) -> T:
    """
    Read the request's body as the given type. Fields that it does not know are ignored.

    :raises Invalid: no JSON, JSON that cannot be stored, or of another shape.
    """
    return shape(data(), into)


def data() -> Any:
    """
    The request's body, decoded: with what an authorization handler made of it.

    :raises Invalid: no JSON, or JSON that cannot be stored.
    """
    if "body" in g:
        return g.body
    # Kept only where it is needed again: for the fingerprint of an idempotent create.
    return load(request.get_data(cache=HEADER in request.headers))


def load(raw: bytes) -> Any:
    """
    Decode JSON that Postgres can store. Of two equal keys, the last counts.

    :raises Invalid: says what to change.
    """
    try:
        decoded = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Invalid(_explain(raw, str(error))) from None
    has_nul = b"\\u0000" in raw
    # A short body cannot break the limits, and most bodies are short.
    if has_nul or raw.count(b"{") + raw.count(b"[") > MAX_DEPTH or raw.count(b":") > MAX_KEYS:
        _check_limits(decoded, has_nul)
    return decoded


def shape(given: Any, into: type[T]) -> T:
    """
    Turn plain data into the given type.

    :raises Invalid: names the field and what it takes.
    """
    if into not in _known:
        _get_to_know(into)
    try:
        return msgspec.convert(given, into)
    except msgspec.ValidationError as error:
        if _is_made_whole(given, str(error)):
            return shape(given, into)
        raise Invalid(_mismatch(str(error), into)) from None


def _get_to_know(kind: Any) -> None:
    """
    Have msgspec work out a type before it is used.

    It does so at the first use, and another thread's first use meanwhile ends the process with SIGSEGV (0.22.0).
    """
    with _getting_to_know:
        msgspec.json.Decoder(kind)
        _known.add(kind)


def identifier(text: str, what: Kind) -> str:
    """
    The canonical spelling of a UUID.

    :raises Invalid: the text is none.
    """
    try:
        return str(uuid.UUID(text))
    except ValueError:
        raise Invalid(f"Invalid {what} ID: must be a UUID") from None


def identifier_or_none(text: str | None, what: Kind) -> str | None:
    """
    The canonical spelling of a UUID; None stays None.

    :raises Invalid: the text is none.
    """
    return None if text is None else identifier(text, what)


def metadata(given: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """
    Metadata as sent, nothing as `{}`.

    :raises Invalid: it is too large to be copied around with every run.
    """
    if given:
        check_sent(given)
    return given or {}


def number(name: str, *, default: int, low: int, high: int) -> int:
    """
    A whole number from the query string.

    :raises Invalid: it is none, or out of bounds.
    """
    raw = request.args.get(name)
    if not raw:
        return default
    try:
        value = int(raw)
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise Invalid(f"{name} must be a whole number from {low} to {high}, not {raw[:40]!r}")
    return value


def names(name: str) -> list[str]:
    """The values of a parameter that may be repeated; an empty one is none, as elsewhere."""
    return [value for value in request.args.getlist(name) if value]


def flag(name: str) -> bool:
    """
    A yes or no from the query string; absent is no.

    :raises Invalid: it is neither.
    """
    return flag_or_none(name) or False


def flag_or_none(name: str) -> bool | None:
    """
    A yes or no from the query string; absent is None.

    :raises Invalid: it is neither.
    """
    raw = request.args.get(name, "").lower()
    if not raw:
        return None
    if raw in ("0", "false"):
        return False
    if raw in ("1", "true"):
        return True
    raise Invalid(f"{name} must be true or false, not {raw[:40]!r}")


def _explain(raw: bytes, error: str) -> str:
    if "surrogate" in error:
        return f"{_BAD_JSON}: a lone surrogate is no character. Send text as valid UTF-8."
    if "depth" in error:
        return f"{_BAD_JSON}: nested deeper than {MAX_DEPTH} levels. Flatten it."
    if "infinity" in error or re.search(rb"[\[:,\s]-?(NaN|Infinity)\b", b" " + raw):
        return f"{_BAD_JSON}: NaN and Infinity are not JSON. Send null or a text instead."
    return _BAD_JSON


def _check_limits(decoded: Any, has_nul: bool) -> None:
    level: list[Any] = [decoded]
    for _ in range(MAX_DEPTH + 1):
        if has_nul and any(isinstance(value, str) and "\0" in value for value in level):
            raise Invalid(f"{_BAD_JSON}: it {NUL}")
        containers = [value for value in level if isinstance(value, list | dict)]
        if not containers:
            return
        level = [child for container in containers for child in _children(container)]
    raise Invalid(f"{_BAD_JSON}: nested deeper than {MAX_DEPTH} levels. Flatten it.")


def _children(container: list[Any] | dict[str, Any]) -> list[Any]:
    if isinstance(container, list):
        return container
    if len(container) > MAX_KEYS:
        raise Invalid(f"{_BAD_JSON}: an object has more than {MAX_KEYS} keys. Split it.")
    return [*container, *container.values()]


def _is_made_whole(given: Any, error: str) -> bool:
    """Whether what is no integer was one but for its spelling, and now is one: in JSON, 1.0 and 1 are the same."""
    found = _FRACTION.search(error)
    if found is None:
        return False
    *path, last = [int(index) if index else name for name, index in _STEP.findall(found[1])]
    for step in path:
        given = given[step]
    value = given[last]
    if not value.is_integer() or abs(value) > MAX_WHOLE:
        return False
    given[last] = int(value)
    return True


def _mismatch(error: str, into: Any) -> str:
    if missing := _MISSING.search(error):
        return f'"{missing[1]}" is a required property' + error[missing.end() :]
    if error.startswith("Invalid enum value") and (at := _AT.search(error)):
        choices = sorted(_literals(get_type_hints(into)[at[1]]))
        return f"{error}. Expected one of: {', '.join(choices)}"
    return error


def _literals(hint: Any) -> set[str]:
    if get_origin(hint) is Literal:
        return set(get_args(hint))
    return {text for part in get_args(hint) for text in _literals(part)}
