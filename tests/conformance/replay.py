"""Send recorded requests again, and say where the answers have another status, header or shape."""

import re
import uuid
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson

from acceptance.sse import frames
from acceptance.system import Answer, System, wait_for

ABSENT = "absent"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\S*")
VARIABLE = re.compile(r"\{(\w+)\}")
#: A header counts with its value, ids apart; these only by being there.
COUNTED = ("x-pagination-total", "x-pagination-next")
HEADERS = (
    "content-type",
    "location",
    "content-location",
    "allow",
    "cache-control",
    "x-accel-buffering",
    "access-control-allow-origin",
    "access-control-allow-methods",
    "access-control-allow-private-network",
    "access-control-expose-headers",
    *COUNTED,
)


# Shapes


def shape(value: Any) -> dict[str, str]:
    """The type of everything in a value, by path; what the items of an array have is put together."""
    found: dict[str, set[str]] = {}
    for path, kind in _walk(value, ""):
        found.setdefault(path, set()).add(kind)
    return {path: "|".join(sorted(kinds)) for path, kinds in sorted(found.items())}


def _walk(value: Any, path: str) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            yield path, "object"
            if not path.endswith("_schema"):
                for key, below in value.items():
                    yield from _walk(below, f"{path}.{UUID.sub('<id>', key)}")
        case list():
            yield path, "array"
            for below in value:
                yield from _walk(below, f"{path}[]")
        case _:
            yield path, _scalar(value)


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "number"
    return "id" if UUID.fullmatch(value) else "time" if TIME.fullmatch(value) else "string"


def events_shape(events: Iterable[tuple[str, Any, str | None]]) -> dict[str, Any]:
    """The order of a stream's events, repeats counted once, and the shape of each kind."""
    named = [(UUID.sub("<id>", name) + ("#" if id_ else ""), data) for name, data, id_ in events]
    kinds = sorted({name for name, _ in named})
    data = {kind: shape([data for name, data in named if name == kind]) for kind in kinds}
    return {
        "events": [name for name, _ in groupby(name for name, _ in named)],
        **{f"{kind} {path[2:]}": types for kind in kinds for path, types in data[kind].items()},
    }


def headers_shape(headers: dict[str, str]) -> dict[str, str]:
    return {
        name: "" if name in COUNTED else UUID.sub("<id>", headers[name])
        for name in HEADERS
        if name in headers
    }


def body_shape(answer: Answer) -> dict[str, Any]:
    """Of JSON and of event streams; other bodies have none."""
    kind = answer.headers.get("content-type", "")
    if kind.startswith("text/event-stream"):
        return events_shape(frames(answer.body))
    return shape(orjson.loads(answer.body)) if kind == "application/json" and answer.body else {}


# Replay


def steps(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def replay(system: System, recorded: list[dict[str, Any]]) -> Iterator[str]:
    """Send the requests one after the other. Yields each difference from what was recorded."""
    known: dict[str, str] = {}
    for step in recorded:
        if "wait" in step:
            _wait(system, step["wait"], known)
        else:
            answer = _send(system, step, known)
            _save(answer, step.get("save", {}), known)
            yield from (f"{step['id']} {text}" for text in differences(step, answer))


def _wait(system: System, wait: dict[str, Any], known: dict[str, str]) -> None:
    def is_so() -> bool:
        return bool(system.get(_filled(wait["path"], known))[wait["field"]] == wait["is"])

    wait_for(is_so, what=str(wait))


def _send(system: System, step: dict[str, Any], known: dict[str, str]) -> Answer:
    raw = step.get("raw")
    body = _filled(step["body"], known) if "body" in step else raw and raw.encode()
    path = _filled(step["path"], known)
    return system.request(step["method"], path, body, headers=step.get("headers"))


def _filled(value: Any, known: dict[str, str]) -> Any:
    """The value with its variables replaced; one that nothing was saved in is a new id."""
    match value:
        case str():
            return VARIABLE.sub(lambda name: known.setdefault(name[1], str(uuid.uuid4())), value)
        case list():
            return [_filled(each, known) for each in value]
        case dict():
            return {_filled(key, known): _filled(each, known) for key, each in value.items()}
    return value


def _save(answer: Answer, wanted: dict[str, list[str | int]], known: dict[str, str]) -> None:
    for name, (source, *path) in wanted.items():
        if source == "header":
            known[name] = UUID.findall(answer.headers["content-location"])[path[0]]
        else:
            found = answer.json()
            for key in path:
                found = found[key]
            known[name] = found


def differences(step: dict[str, Any], answer: Answer) -> Iterator[str]:
    """Where an answer is not as recorded. Of another status nothing more is said."""
    if answer.status != step["status"]:
        yield f"status {step['status']}, here {answer.status}"
        return
    yield from _compared("header", step.get("answer_headers", {}), headers_shape(answer.headers))
    if "shape" in step:
        yield from _compared("body", step["shape"], body_shape(answer))


def _compared(what: str, expected: dict[str, Any], actual: dict[str, Any]) -> Iterator[str]:
    """What is absent as a whole counts once."""
    absent: list[str] = []
    for name in sorted({*expected, *actual}):
        old, new = expected.get(name, ABSENT), actual.get(name, ABSENT)
        if old != new and not (absent and name.startswith(tuple(absent))):
            yield f"{what} {name}: {old}, here {new}"
        if ABSENT in (old, new):
            absent += [f"{name}.", f"{name}["]
