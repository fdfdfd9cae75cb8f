"""The operator's own encryption: what its handlers get, what is stored of what they make, and what they may not do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from langgraph_sdk import DecryptResult, Encryption

from trellis.db.checkpoints import rows
from trellis.db.checkpoints.chain import Chain, Link
from trellis.db.checkpoints.hooked import opened
from trellis.db.checkpoints.load import Stored, StoredWrite
from trellis.db.handlers import Handlers
from trellis.db.vault import Vault
from trellis.domain import encryption as settings
from trellis.errors import EncryptionFailed, Invalid, Undecipherable

pytestmark = pytest.mark.filterwarnings("ignore:The Encryption API is in beta")

Seen = list[tuple[Any, ...]]


def encryption(seen: Seen | None = None, **handlers: Any) -> Encryption:
    """Reverses texts and bytes, but those under `owner`. `handlers` replace single ones."""
    seen = [] if seen is None else seen
    made = Encryption()

    async def encrypt_blob(ctx: Any, blob: bytes) -> Any:
        seen.append((ctx.model, ctx.field, ctx.metadata))
        return blob[::-1]

    async def decrypt_blob(ctx: Any, blob: bytes) -> Any:
        seen.append((ctx.model, ctx.field, ctx.metadata))
        return blob[::-1]

    async def encrypt_json(ctx: Any, data: dict[str, Any]) -> Any:
        seen.append((ctx.model, ctx.field, ctx.metadata, sorted(data)))
        return {k: v[::-1] if isinstance(v, str) and k != "owner" else v for k, v in data.items()}

    async def decrypt_json(ctx: Any, data: dict[str, Any]) -> Any:
        seen.append((ctx.model, ctx.field, ctx.metadata, sorted(data)))
        return {k: v[::-1] if isinstance(v, str) and k != "owner" else v for k, v in data.items()}

    chosen = {
        "encrypt_blob": encrypt_blob,
        "decrypt_blob": decrypt_blob,
        "encrypt_json": encrypt_json,
        "decrypt_json": decrypt_json,
        **handlers,
    }
    for name, handler in chosen.items():
        verb, kind = name.split("_")
        if handler is not None:
            getattr(getattr(made, verb), kind)(handler)
    return made


def vault(seen: Seen | None = None, **handlers: Any) -> Vault:
    return Vault(None, Handlers(encryption(seen, **handlers)))


def test_blobs() -> None:
    seen: Seen = []
    handlers = Handlers(encryption(seen))

    one, two = handlers.seal_blobs([(b"rabc", {"team": "red"}), (b"rxyz", {})])

    assert b"cbar" in one
    assert b'{"team":"red"}' in one
    assert handlers.seal_blobs([(one, {})]) == [one]
    assert handlers.open_blobs([two, one, b"rplain"]) == [b"rxyz", b"rabc", b"rplain"]
    assert set(map(str, seen)) == {
        str(("checkpoint", "blob", {"team": "red"})),
        str(("checkpoint", "blob", {})),
    }


def test_json__stands_key_by_key_with_its_context() -> None:
    seen: Seen = []
    on = vault(seen)

    hidden = on.hide(
        {"pin": "abc", "owner": "me", "n": 1, "graph_id": "g"}, model="thread", told={"team": "red"}
    )

    assert hidden == {
        "pin": {"$hooked": "cba", "context": {"team": "red"}},
        "owner": "me",
        "n": 1,
        "graph_id": "g",
    }
    shown = on.show({**hidden, **on.hide({"more": "xy"}, model="run", told={})}, model="cron")
    assert shown == {"pin": "abc", "owner": "me", "n": 1, "graph_id": "g", "more": "xy"}
    keys = ["graph_id", "n", "owner"]
    assert seen == [
        ("thread", "metadata", {"team": "red"}, ["graph_id", "n", "owner", "pin"]),
        ("run", "metadata", {}, ["more"]),
        ("cron", "metadata", {"team": "red"}, [*keys, "pin"]),
        ("cron", "metadata", {}, sorted([*keys, "more"])),
    ]


def test_json__what_is_needed_stays_but_not_what_is_in_it() -> None:
    on = vault()
    config = {"configurable": {"secret": "abc", "thread_id": "t"}, "recursion_limit": 7}

    hidden = on.hide(config, model="assistant", field="config")

    assert "abc" not in str(hidden)
    assert hidden["configurable"]["thread_id"] == "t"
    assert on.show(hidden, model="assistant", field="config") == config


def test_json__what_only_looks_as_if_a_handler_had_made_it() -> None:
    """It comes from a client: no handler is to decrypt what that says, under a context that it names."""
    on = vault()
    forged = {"a": {"$hooked": "cba", "context": {"team": "another"}}}

    assert on.show(on.hide(forged, model="thread"), model="thread") == forged
    with pytest.raises(Invalid, match="only the server may use"):
        on.hide({"a": {"$sealed": "x"}}, model="thread")


def test_columns() -> None:
    on = vault()
    text = on.seal_json('{"input": "abc"}', "run", "1", "kwargs") or ""

    assert "cba" in text
    assert on.open_json(json.loads(text), "run", "1", "kwargs") == {"input": "abc"}
    assert on.open_json({"input": "plain"}, "run", "1", "kwargs") == {"input": "plain"}
    assert on.seal_json_by_key('{"input": "abc"}', "run", "1", "kwargs") == '{"input": "abc"}'
    with pytest.raises(Undecipherable, match=r"names none \(`encryption.path`\)"):
        Vault().open_json(json.loads(text), "run", "1", "kwargs")


def test_blob__without_its_handlers() -> None:
    [sealed] = Handlers(encryption()).seal_blobs([(b"rabc", {})])

    assert vault().open(sealed, "blob") == sealed
    with pytest.raises(Undecipherable, match=r"names none \(`encryption.path`\)"):
        Vault().open(sealed, "blob")


def test_keys__decrypt_what_was_encrypted_before_the_handlers() -> None:
    keys = settings.Encryption(keys=(b"k" * 32,), names=frozenset({"pin"}))
    before, after = Vault(keys), Vault(keys, Handlers(encryption()))
    data, hidden = before.seal(b"rabc", "blob"), before.hide({"pin": "abc"}, model="thread")

    assert after.open(data, "blob") == b"rabc"
    assert after.show(hidden, model="thread") == {"pin": "abc"}
    assert after.seal(b"rabc", "blob") == b"rabc"
    assert after.hide({"pin": "abc"}, model="thread")["pin"]["$hooked"] == "cba"


def test_check_search() -> None:
    on = vault()

    on.check_search({"owner": "me", "n": 1}, model="thread")
    with pytest.raises(Invalid, match="'pin' is encrypted"):
        on.check_search({"owner": "me", "pin": "abc"}, model="thread")


async def _other_keys(ctx: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    return {"all": str(data)}


async def _nothing(ctx: Any, data: Any) -> None:
    return None


async def _raises(ctx: Any, data: Any) -> Any:
    raise KeyError("abc")


@pytest.mark.parametrize("handler", [_other_keys, _nothing, _raises])
def test_json__encryptors_that_may_not_be(handler: Any) -> None:
    with pytest.raises(EncryptionFailed, match=r"An encryption handler failed \(\w+\)") as failed:
        vault(encrypt_json=handler).hide({"pin": "abc"}, model="thread")

    assert "abc" not in str(failed.value)


@pytest.mark.parametrize("handler", [_nothing, _raises])
def test_blob__handlers_that_may_not_be(handler: Any) -> None:
    with pytest.raises(EncryptionFailed):
        Handlers(encryption(encrypt_blob=handler)).seal_blobs([(b"rabc", {})])
    [sealed] = Handlers(encryption()).seal_blobs([(b"rabc", {})])
    with pytest.raises(EncryptionFailed):
        Handlers(encryption(decrypt_blob=handler)).open_blobs([sealed])


def test_decrypt_result() -> None:
    """The plaintext counts, also where nothing is known of where the value stands."""

    async def decrypt(ctx: Any, blob: bytes) -> DecryptResult[bytes]:
        return DecryptResult(plaintext=blob[::-1], replacement=b"new")

    handlers = Handlers(encryption(decrypt_blob=decrypt))
    [sealed] = handlers.seal_blobs([(b"rabc", {})])

    assert handlers.open_blobs([sealed, sealed]) == [b"rabc", b"rabc"]


def test_json__a_handler_that_exits_fails_alone() -> None:
    async def leave(ctx: Any, data: Any) -> Any:
        if data["key"] == "leave":
            raise SystemExit(3)
        return data

    handlers = Handlers(encryption(encrypt_json=leave))

    with pytest.raises(EncryptionFailed, match="SystemExit"):
        handlers.seal_json({"key": "leave"}, model="run", field="kwargs")

    assert handlers.seal_json({"key": "stay"}, model="run", field="kwargs") == {"key": "stay"}


def test_derive() -> None:
    made = encryption()

    @made.context
    async def of_user(user: Any, ctx: Any) -> dict[str, Any]:
        return {**ctx.metadata, "team": user["identity"]}

    assert Handlers(made).derive({"identity": "red"}, {"v": 1}) == {"v": 1, "team": "red"}
    assert Handlers(encryption()).derive(None, {"v": 1}) == {"v": 1}
    made._context_handler = _nothing
    with pytest.raises(EncryptionFailed):
        Handlers(made).derive({}, {})


def test_checkpoint__is_opened_all_at_once() -> None:
    at_once = 0
    gate = asyncio.Event()

    async def decrypt(ctx: Any, blob: bytes) -> bytes:
        """None goes on before all three are here."""
        nonlocal at_once
        at_once += 1
        if at_once == 3:
            gate.set()
        await gate.wait()
        return blob[::-1]

    on = vault(decrypt_blob=decrypt)
    assert on.handlers
    made = rows.sealed(
        rows.Rows(
            [rows.CheckpointRow("t", "", "1", None, None, None, b"rbody", '{"pin": "abc"}')],
            [rows.BlobRow("t", "", "c", v, "msgpack", None, b"r" + v.encode()) for v in "12"],
            [rows.WriteRow("t", "", "1", "task", 0, "c", "msgpack", b"rw", "")],
        ),
        on,
    )
    assert made.is_sealed
    assert rows.sealed(made, on) is made
    links = tuple(Link(row.version, row.type, row.data) for row in made.blobs)
    writes = [StoredWrite("task", "c", "msgpack", made.writes[0].data)]
    metadata = json.loads(made.checkpoints[0].metadata)
    stored = Stored("t", "", "1", None, {}, metadata, {"c": Chain(links)}, writes)

    [found, nothing] = opened([stored, None], on.handlers)

    assert nothing is None
    assert [link.data for link in found.chains["c"].links] == [b"r1", b"r2"]
    assert found.writes[0].data == b"rw"
    assert found.metadata == {"pin": "abc"}
