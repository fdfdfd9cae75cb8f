"""
Whoever can write to the tables can not make us import or call anything.

Each row here names a function that would leave a file behind, or a module that would leave a mark when imported.
"""

from __future__ import annotations

import pickle
import posixpath
import sys
from pathlib import Path
from typing import Any

import orjson
import ormsgpack
import pytest
from langgraph.checkpoint.base import CheckpointTuple
from sqlalchemy import Engine

from trellis.db.checkpoints import (
    BlobRow,
    CheckpointRow,
    DirectBackend,
    Rows,
    WriteRow,
    insert,
    plain_values,
)
from trellis.db.checkpoints.codec import pack, pack_body
from trellis.db.checkpoints.saver import Saver
from trellis.db.serde import serializer
from trellis.domain.ids import new_id
from trellis.errors import TrellisError

MODULE = "a_module_that_must_not_be_imported"


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that a row tries to make, and a module on the path that makes it when imported."""
    made = tmp_path / "made"
    body = f"open({str(made)!r}, 'w').close()\ndef call(*args, **kwargs): pass\n"
    (tmp_path / f"{MODULE}.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    return made


def ext(code: int, *content: Any) -> bytes:
    return ormsgpack.packb(ormsgpack.Ext(code, ormsgpack.packb(content)))


def payload(code: int, argument: Any) -> Any:
    """The argument in the form that the extension takes."""
    if code in (0, 3):
        return argument
    return [argument] if code == 1 else {"command": argument}


def stored(engine: Engine, kind: str, data: bytes) -> str:
    """A thread whose newest checkpoint holds the value in a channel and in a pending write."""
    thread_id = new_id()
    body = pack_body(
        {"v": 4, "ts": "", "channel_versions": {"c": "1"}, "versions_seen": {}, "inline": {}}
    )
    rows = Rows(
        checkpoints=[CheckpointRow(thread_id, "", "1", None, None, None, body, "{}")],
        blobs=[BlobRow(thread_id, "", "c", "1", kind, None, pack(data))],
        writes=[WriteRow(thread_id, "", "1", "task", 0, "c", kind, pack(data), "")],
    )
    with engine.begin() as tx:
        insert(tx, rows)
    return thread_id


def read(backend: DirectBackend, thread_id: str) -> CheckpointTuple:
    saver = Saver(backend, serde=serializer())
    found = saver.get_tuple({"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}})
    assert found is not None
    return found


def shown(engine: Engine, thread_id: str) -> Any:
    with engine.begin() as tx:
        return plain_values(tx, [thread_id], states={})[thread_id]["c"]


@pytest.mark.parametrize("code", range(6))
def test_function__is_not_called(
    engine: Engine, backend: DirectBackend, trap: Path, code: int
) -> None:
    command = payload(code, f"touch {trap}")
    thread_id = stored(engine, "msgpack", ext(code, "os", "system", command, "__call__"))
    found = read(backend, thread_id)
    assert found.checkpoint["channel_values"]["c"] == command
    assert found.pending_writes == [("task", "c", command)]
    assert shown(engine, thread_id) == command
    assert not trap.exists()


@pytest.mark.parametrize("code", range(6))
def test_module__is_not_imported(
    engine: Engine, backend: DirectBackend, trap: Path, code: int
) -> None:
    thread_id = stored(
        engine, "msgpack", ext(code, MODULE, "call", payload(code, "x"), "fromisoformat")
    )
    assert read(backend, thread_id).checkpoint["channel_values"]["c"] == payload(code, "x")
    assert shown(engine, thread_id) == payload(code, "x")
    assert MODULE not in sys.modules
    assert not trap.exists()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_harmless_function__is_not_called_either(
    engine: Engine, backend: DirectBackend, code: int
) -> None:
    arguments = {"a": "a"} if code == 2 else ["a", "b"]
    thread_id = stored(engine, "msgpack", ext(code, posixpath.__name__, "join", arguments))
    assert read(backend, thread_id).checkpoint["channel_values"]["c"] == arguments


def test_object_inside_a_trusted_one__is_not_trusted(
    engine: Engine, backend: DirectBackend, trap: Path
) -> None:
    inner = ormsgpack.Ext(0, ormsgpack.packb(("os", "system", f"touch {trap}")))
    outer = ormsgpack.packb(
        ormsgpack.Ext(1, ormsgpack.packb(("langgraph.types", "Send", ["n", inner])))
    )
    thread_id = stored(engine, "msgpack", outer)
    assert read(backend, thread_id).checkpoint["channel_values"]["c"].arg == f"touch {trap}"
    assert not trap.exists()


@pytest.mark.parametrize("method", ["now", "__init_subclass__", "strptime"])
def test_method_of_a_trusted_type__is_not_called(
    engine: Engine, backend: DirectBackend, method: str
) -> None:
    thread_id = stored(engine, "msgpack", ext(3, "datetime", "datetime", "2026-01-01", method))
    assert read(backend, thread_id).checkpoint["channel_values"]["c"] == "2026-01-01"


@pytest.mark.parametrize("dtype", ["|O", "<i4,(99999,)i4", "no such type"])
def test_array__makes_nothing_of_its_type(
    engine: Engine, backend: DirectBackend, dtype: str
) -> None:
    before = "numpy" in sys.modules
    thread_id = stored(engine, "msgpack", ext(6, dtype, [1], "C", b"12345678"))
    assert read(backend, thread_id).checkpoint["channel_values"]["c"] == b"12345678"
    assert shown(engine, thread_id) == "12345678"
    assert ("numpy" in sys.modules) == before


@pytest.mark.parametrize("lc", [1, 2])
def test_json__stays_data_for_a_run_and_is_not_shown(
    engine: Engine, backend: DirectBackend, trap: Path, lc: int
) -> None:
    row = {
        "lc": lc,
        "type": "constructor",
        "id": ["os", "system"],
        "args": [f"touch {trap}"],
        "kwargs": {},
    }
    thread_id = stored(engine, "json", orjson.dumps(row))
    assert read(backend, thread_id).checkpoint["channel_values"]["c"] == row
    with pytest.raises(TrellisError):
        shown(engine, thread_id)
    assert not trap.exists()


def test_json_of_a_langchain_class__stays_data(engine: Engine, backend: DirectBackend) -> None:
    name = ["langchain_core", "messages", "HumanMessage"]
    row = {"lc": 1, "type": "constructor", "id": name, "kwargs": {"content": "x"}}
    thread_id = stored(engine, "json", orjson.dumps(row))
    assert read(backend, thread_id).checkpoint["channel_values"]["c"] == row


class Bomb:
    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, (str(self.made), "w")


@pytest.mark.parametrize("kind", ["pickle", "msgpack+aes", "", "plain"])
def test_tag_that_is_not_ours__is_refused(
    engine: Engine, backend: DirectBackend, trap: Path, kind: str
) -> None:
    thread_id = stored(engine, kind, pickle.dumps(Bomb(trap)))
    with pytest.raises(TrellisError):
        read(backend, thread_id)
    with pytest.raises(TrellisError):
        shown(engine, thread_id)
    assert not trap.exists()


def test_value_that_builds_on_itself__is_refused(engine: Engine, backend: DirectBackend) -> None:
    thread_id = stored(engine, "msgpack", ormsgpack.packb([1]))
    with engine.begin() as tx:
        tx.exec_driver_sql("UPDATE checkpoint_blob SET base_version = version")
    with pytest.raises(TrellisError, match="lost version"):
        read(backend, thread_id)
