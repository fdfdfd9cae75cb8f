"""
The operator's own encryption: the handlers of a `langgraph_sdk.Encryption`, on an event loop of their own.

    h │ length 4 │ context │ what the handler made         in bytea
    {"key": {"$hooked": what the handler made, "context": …}, "other": as it is}         in JSON

The context that was there when a value was encrypted stands beside it, so that whoever reads it later can restore it.
Values that a handler leaves as they are can be searched. The loop is one for the process: clients of a key service
belong to the loop that first used them, and a handler that blocks holds up nobody's run.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

import orjson

from trellis.db.replacements import Place, WriteBack
from trellis.domain.encryption import NEEDED, context
from trellis.errors import EncryptionFailed
from trellis.processes import run_loop

if TYPE_CHECKING:
    from langgraph_sdk import Encryption

T = TypeVar("T")

_log = logging.getLogger(__name__)

#: What a blob begins with that a handler has made. Neither `codec.pack` nor `Vault.seal` begins so.
TAG = b"h"
#: The key under which a value of a JSON object stands that a handler has made.
HOOKED = "$hooked"
_LENGTH = 4
#: How long the handlers may take for one thing to be stored or read, in seconds. A lease lasts longer.
_PATIENCE_SECONDS = 10.0


class Handlers:
    """Calls the handlers from any thread, but that of their own loop."""

    def __init__(self, encryption: Encryption) -> None:
        self._encryption = encryption
        self.has_blobs = encryption._blob_encryptor is not None
        self.has_json = encryption._json_encryptor is not None
        self.write_back: WriteBack | None = None  #: where replacements go; None: nowhere
        self._loop = asyncio.new_event_loop()
        threading.Thread(
            target=run_loop, args=(self._loop,), name="encryption", daemon=True
        ).start()

    def derive(self, user: Any, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        The context of a request: what the operator's context handler makes of the user and of what the client said.

        :raises EncryptionFailed: it failed.
        """
        return self._wait(self._derive(user, told)) if self._encryption._context_handler else told

    async def _derive(self, user: Any, told: Mapping[str, Any]) -> Mapping[str, Any]:
        handler = self._encryption._context_handler
        assert handler is not None
        made = await handler(user, _context(None, None, told))
        if not isinstance(made, dict):
            raise TypeError(f"a context handler must return a dict, not {type(made).__name__}")
        orjson.dumps(made)
        return made

    # Blobs, many at once

    def seal_blobs(self, blobs: Sequence[tuple[bytes, Mapping[str, Any]]]) -> list[bytes]:
        """
        Encrypt, each with its context. What is encrypted already stays.

        :raises EncryptionFailed: a handler raised, took too long, or returned nonsense.
        """
        return self._wait(_all(self._seal_blob(data, told) for data, told in blobs))

    async def _seal_blob(self, data: bytes, told: Mapping[str, Any]) -> bytes:
        handler = self._encryption._blob_encryptor
        if handler is None or data[:1] == TAG:
            return data
        made = await handler(_context("checkpoint", "blob", told), data)
        head = orjson.dumps(told)
        return TAG + len(head).to_bytes(_LENGTH) + head + _bytes(made)

    def open_blobs(
        self, blobs: Sequence[bytes], places: Mapping[bytes, Sequence[Place]] | None = None
    ) -> list[bytes]:
        """The inverse of `seal_blobs`. What a handler replaces is written back where places are known."""
        opened: list[tuple[bytes, bytes]] = self._wait(_all(map(self._open_blob, blobs)))
        for data, (_, kept) in zip(blobs, opened, strict=True):
            for place in places.get(data, ()) if places else ():
                self._keep(place, data, kept)
        return [plain for plain, _ in opened]

    def _keep(self, place: Place | None, old: Any, new: Any) -> None:
        if place is not None and self.write_back is not None and new != old:
            self.write_back.put(place, old, new)

    async def _open_blob(self, data: bytes) -> tuple[bytes, bytes]:
        """What was encrypted, and what is to be stored from now on."""
        handler = self._encryption._blob_decryptor
        if handler is None or data[:1] != TAG:
            return data, data
        start = len(TAG) + _LENGTH
        end = start + int.from_bytes(data[len(TAG) : start])
        told = _context("checkpoint", "blob", orjson.loads(data[start:end]))
        plain, new = _parts(await handler(told, data[end:]))
        return _bytes(plain), data if new is None else data[:end] + _bytes(new)

    # JSON

    def seal_json(
        self,
        value: Mapping[str, Any],
        *,
        model: str,
        field: str,
        told: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """
        Encrypt what the handler wants to of an object's values. `told` is its context; None: the caller's.

        :raises EncryptionFailed: it raised, took too long, or returned other keys.
        """
        told = context.get() if told is None else told
        return self._wait(self._seal_json(value, model, field, told))

    async def _seal_json(
        self, value: Mapping[str, Any], model: str, field: str, told: Mapping[str, Any]
    ) -> dict[str, Any]:
        handler = self._encryption._json_encryptor
        assert handler is not None
        made = await handler(_context(model, field, told), dict(value))
        if not isinstance(made, Mapping) or made.keys() != value.keys():
            raise ValueError("a JSON encryptor must return a dict with the keys that it was given")
        orjson.dumps(made)
        kept = {key: _kept(key, value[key], made[key], told) for key in value}
        for key in NEEDED & kept.keys():
            if isinstance(value[key], Mapping):
                kept[key] = await self._seal_json(value[key], model, field, told)
        return kept

    def open_json(
        self,
        value: Mapping[str, Any],
        *,
        model: str,
        field: str,
        place: Place | None = None,
        mark: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """
        The inverse of `seal_json`. What a handler replaces is written back to the place, beside the mark.

        :raises EncryptionFailed: the handler raised or took too long.
        """
        opened, kept = self._wait(self._open_json(value, model, field))
        self._keep(place, {**(mark or {}), **value}, {**(mark or {}), **kept})
        return opened

    async def _open_json(
        self, value: Mapping[str, Any], model: str, field: str
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was encrypted, and what is to be stored from now on."""
        handler = self._encryption._json_decryptor
        opened, kept = dict(value), dict(value)
        plain = {key: item for key, item in value.items() if not is_hooked(item)}
        for told, made in _by_context(value):
            assert handler is not None
            found, new = _parts(await handler(_context(model, field, told), {**plain, **made}))
            opened.update({key: found[key] for key in made})
            if new is not None:
                kept.update({key: {**value[key], HOOKED: new[key]} for key in made})
        for key in NEEDED & plain.keys():
            if isinstance(plain[key], Mapping):
                opened[key], kept[key] = await self._open_json(plain[key], model, field)
        return opened, kept

    def encrypted(self, query: Mapping[str, Any], *, model: str) -> list[str]:
        """The keys of a query whose values the handler encrypts, so that no search finds them."""
        sealed = self.seal_json(query, model=model, field="metadata")
        return sorted(key for key, item in sealed.items() if is_hooked(item))

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_PATIENCE_SECONDS)
        except TimeoutError as error:
            future.cancel()
            raise EncryptionFailed("took too long") from error
        # The edge to the operator's code.
        except (Exception, SystemExit) as error:
            _log.error("An encryption handler failed.", exc_info=error)
            raise EncryptionFailed(f"failed ({type(error).__name__})") from error


def is_hooked(value: Any) -> bool:
    """Whether a value of a JSON object was made by a handler."""
    return isinstance(value, Mapping) and HOOKED in value


def _parts(answer: Any) -> tuple[Any, Any]:
    """What a decryptor returned, and what it wants stored instead of what it was given; None: nothing."""
    from langgraph_sdk import DecryptResult

    if not isinstance(answer, DecryptResult):
        return answer, None
    return answer.plaintext, answer.replacement


async def _all(work: Any) -> list[Any]:
    return list(await asyncio.gather(*work))


def _context(model: str | None, field: str | None, told: Mapping[str, Any]) -> Any:
    from langgraph_sdk import EncryptionContext

    return EncryptionContext(model=model, field=field, metadata=dict(told))


def _bytes(made: Any) -> bytes:
    if not isinstance(made, bytes):
        raise TypeError(f"a blob handler must return bytes, not {type(made).__name__}")
    return made


def _kept(key: str, value: Any, made: Any, told: Mapping[str, Any]) -> Any:
    """A value as it is stored. What only looks as if a handler had made it must not be taken for that."""
    if key in NEEDED or (made == value and not is_hooked(value)):
        return value
    return {HOOKED: made, "context": told}


def _by_context(
    value: Mapping[str, Any],
) -> list[tuple[Mapping[str, Any], dict[str, Any]]]:
    """What handlers have made, by the context they had."""
    groups: dict[bytes, tuple[Mapping[str, Any], dict[str, Any]]] = {}
    for key, item in value.items():
        if is_hooked(item):
            told = item.get("context") or {}
            name = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
            groups.setdefault(name, (told, {}))[1][key] = item[HOOKED]
    return list(groups.values())
