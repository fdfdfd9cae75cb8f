"""
Encryption at rest: AES-GCM with the operator's key, each value bound to the row and the column it stands in.

    e │ key id 4 │ salt 16 │ nonce 12 │ ciphertext and tag        in bytea; in JSON as {"$sealed": base64 of that}

The key id finds the key among several, so that keys can be rotated. Each process encrypts with a key of its own,
derived from the operator's and the salt: the number of values that random nonces allow per key is never reached.
What a value is bound to is authenticated, not stored: a value that was copied to another row does not open.

Plain values open as they are, for rows that are older than the key, unless the settings refuse them. Without a key
nothing is encrypted, and what is encrypted already raises.
"""

from __future__ import annotations

import base64
import hmac
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson
from sqlalchemy import Connection, Engine

from trellis.db import replacements
from trellis.db.handlers import HOOKED, Handlers
from trellis.db.handlers import TAG as MADE
from trellis.db.replacements import Place
from trellis.domain.encryption import Encryption, names_in
from trellis.errors import Invalid, KeyMissing, Undecipherable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: What an encrypted value begins with. `codec.pack` never begins so.
_TAG = b"e"
_ID, _SALT, _NONCE = 4, 16, 12
_HEAD = len(_TAG) + _ID + _SALT + _NONCE

#: The only key of a JSON object that stands for an encrypted value.
SEALED = "$sealed"
#: What an encrypted text begins with.
_TEXT = SEALED + ":"

_RESERVED = f"'{SEALED}' and '{HOOKED}' are keys that only the server may use."
#: What a process leaves for others to open.
_PROBE = (b"trellis", "encryption_probe")
#: Option of an engine: its vault.
_OPTION = "trellis_vault"
#: Derived keys that are kept; each process that ever wrote has one.
_CIPHERS = 4096


class Vault:
    """Seals what is written and opens what is read. `where` names the place that a value is bound to."""

    def __init__(
        self, encryption: Encryption | None = None, handlers: Handlers | None = None
    ) -> None:
        """With handlers, keys only decrypt what handlers of that kind would encrypt."""
        encryption = encryption or Encryption()
        self.handlers = handlers
        self._blobs_by_key = bool(encryption.keys) and not (handlers and handlers.has_blobs)
        self._json_by_key = bool(encryption.keys) and not (handlers and handlers.has_json)
        self._json_by_hand = handlers if handlers and handlers.has_json else None
        self._keys = {_key_id(key): key for key in encryption.keys}
        self._names = encryption.names
        self._is_required = encryption.is_required
        self._own = (next(iter(self._keys), b""), os.urandom(_SALT))
        self._ciphers: dict[tuple[bytes, bytes], AESGCM] = {}

    @property
    def binds_rows(self) -> bool:
        """Whether there may be values that open in their row only."""
        return bool(self._keys)

    @property
    def is_on(self) -> bool:
        """Whether what is written is encrypted."""
        return bool(self._keys) or self.handlers is not None

    def probe(self) -> bytes | None:
        """Something that only those can open who have the key that encrypts here. None: no key does."""
        if not (self._blobs_by_key or self._json_by_key):
            return None
        return self._sealed(_PROBE[0], _PROBE[1:])

    def opens_probe(self, probe: bytes) -> bool:
        """
        Whether a probe was made with the key that encrypts here, rather than with an older one.

        :raises KeyMissing: it was made with neither.
        """
        self.open(probe, *_PROBE[1:])
        return probe[len(_TAG) : len(_TAG) + _ID] == self._own[0]

    def seal(self, data: bytes, *where: Any) -> bytes:
        """Encrypt, if there is a key, and no handler that does it."""
        return self._sealed(data, where) if self._blobs_by_key else data

    def _sealed(self, data: bytes, where: tuple[Any, ...]) -> bytes:
        nonce = os.urandom(_NONCE)
        sealed = self._cipher(*self._own).encrypt(nonce, data, orjson.dumps(where))
        return _TAG + b"".join(self._own) + nonce + sealed

    def open(self, data: bytes | memoryview, *where: Any) -> bytes:
        """
        What was sealed. What a handler has made is for `hooked.opened`, after the transaction.

        :raises Undecipherable: its key is missing, it was changed, or it comes from another place.
        """
        data = bytes(data)
        if data[:1] == MADE:
            self._check_handlers(where)
            return data
        if data[:1] != _TAG:
            self._check_plain(where)
            return data
        key_id, salt, nonce = data[1:5], data[5:21], data[21:_HEAD]
        cipher = self._cipher(key_id, salt)
        from cryptography.exceptions import InvalidTag

        try:
            return cipher.decrypt(nonce, data[_HEAD:], orjson.dumps(where))
        except (InvalidTag, ValueError):
            raise Undecipherable(
                f"An encrypted value does not open: {_told(where)} was changed, or it comes from another row."
            ) from None

    def seal_json(self, text: str | None, *where: Any) -> str | None:
        """
        Encrypt the text of a JSON object, if there is a key or a handler; None and an empty object stay.

        `where` begins with what the row is, and ends with its column.

        :raises EncryptionFailed: the handler failed.
        """
        if self._json_by_hand is None or text is None or text == "{}":
            return self.seal_json_by_key(text, *where)
        made = self.seal_by_hand(orjson.loads(text), model=where[0], field=where[-1])
        return orjson.dumps(made).decode()

    def seal_json_by_key(self, text: str | None, *where: Any) -> str | None:
        """The same without handlers: in a transaction that many runs share, after `seal_by_hand`."""
        if not self._json_by_key or text is None or text == "{}":
            return text
        return orjson.dumps({SEALED: self._armoured(text.encode(), where)}).decode()

    def seal_by_hand(self, value: Mapping[str, Any] | None, *, model: str, field: str) -> Any:
        """
        What a handler makes of a JSON object, if there is one.

        :raises EncryptionFailed: it failed.
        """
        if self._json_by_hand is None or not value:
            return value
        plain = orjson.loads(orjson.dumps(value))
        return {HOOKED: 1, **self._json_by_hand.seal_json(plain, model=model, field=field)}

    def open_json(self, value: Any, *where: Any, may_be_plain: bool = False) -> Any:
        """
        The value of a JSON column. `may_be_plain`: the server writes it without encryption, too.

        :raises Undecipherable: see `open`.
        :raises EncryptionFailed: a handler failed.
        """
        found = self.open_json_by_key(value, *where, may_be_plain=may_be_plain)
        return self.open_by_hand(found, *where)

    def open_json_by_key(self, value: Any, *where: Any, may_be_plain: bool = False) -> Any:
        """The same without handlers: in a transaction that many runs share."""
        if is_bound(value):
            return orjson.loads(self.open(_bytes(value[SEALED], where), *where))
        if value and not may_be_plain and not _is_by_hand(value):
            self._check_plain(where)
        return value

    def open_by_hand(self, value: Any, *where: Any) -> Any:
        """
        What was before handlers made the value of a JSON column, if they did. `where` as for `seal_json`.

        :raises Undecipherable: there are none.
        :raises EncryptionFailed: one failed.
        """
        if not _is_by_hand(value):
            return value
        model, *ids, field = where
        self._check_handlers((model, field))
        assert self.handlers is not None
        made = {key: item for key, item in value.items() if key != HOOKED}
        return self.handlers.open_json(
            made,
            model=model,
            field=field,
            place=replacements.of_model(model, ids, field),
            mark={HOOKED: value[HOOKED]},
        )

    def seal_text(self, text: str | None, *where: Any) -> str | None:
        """Encrypt the value of a text column, if there is a key."""
        if not self._json_by_key or text is None:
            return text
        return _TEXT + self._armoured(text.encode("utf-8", "replace"), where)

    def open_text(self, text: str, *where: Any) -> str:
        """
        The value of a text column.

        :raises Undecipherable: see `open`.
        """
        if not text.startswith(_TEXT):
            return text
        return self.open(_bytes(text[len(_TEXT) :], where), *where).decode()

    def hide(
        self,
        value: Mapping[str, Any],
        *,
        model: str,
        field: str = "metadata",
        told: Mapping[str, Any] | None = None,
    ) -> Any:
        """
        A JSON object with some values encrypted: those of the chosen keys, however deep, or those that a handler
        chooses, with the context it is told (None: the caller's). The other keys can be searched.

        These values are bound to their key only: statements merge and copy them from row to row.

        :raises Invalid: the data pretends to hold an encrypted value.
        :raises EncryptionFailed: the handler failed.
        """
        if self._json_by_hand and value:
            if names_in(value, frozenset({SEALED})):
                raise Invalid(_RESERVED)
            return self._json_by_hand.seal_json(value, model=model, field=field, told=told)
        return self._hidden(value) if self._json_by_key else value

    def _hidden(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            check_unsealed(value)
            return {key: self._hidden_at(key, item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._hidden(item) for item in value]
        return value

    def _hidden_at(self, key: str, value: Any) -> Any:
        if key not in self._names or value is None:
            return self._hidden(value)
        return {SEALED: self._armoured(orjson.dumps(value), ("key", key))}

    def show(
        self, value: Any, *, model: str, field: str = "metadata", place: Place | None = None
    ) -> Any:
        """
        A JSON object as it was before `hide`. `place` is where it stands.

        :raises Undecipherable: see `open`.
        :raises EncryptionFailed: a handler failed.
        """
        found = self.show_by_key(value)
        if self.handlers is None or not found:
            return found
        # With what was opened by key in it, it must not be stored.
        place = place if found == value else None
        return self.handlers.open_json(found, model=model, field=field, place=place)

    def show_columns(
        self, row: Mapping[str, Any], *, at: str | None = None, **columns: str
    ) -> dict[str, Any]:
        """A row with some of its columns as they were before `hide`: `column="model field"`. `at`: of other rows."""
        shown = dict(row)
        for column, of in columns.items():
            model, field = of.split()
            place = replacements.of_row(at or model, row, field) if self.handlers else None
            shown[column] = self.show(row[column], model=model, field=field, place=place)
        return shown

    def show_by_key(self, value: Any) -> Any:
        """The same without handlers: in a transaction that many runs share."""
        if not self._keys:
            return value
        if isinstance(value, Mapping):
            return {key: self._shown(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.show_by_key(item) for item in value]
        return value

    def _shown(self, key: str, value: Any) -> Any:
        if is_bound(value):
            return self.open_json_by_key(value, "key", key)
        return self.show_by_key(value)

    def check_search(self, query: Mapping[str, Any], *, model: str) -> None:
        """:raises Invalid: the query asks for a key whose values are encrypted."""
        found = sorted(names_in(query, self._names)) if self._json_by_key and self._names else []
        if self._json_by_hand and query:
            found = self._json_by_hand.encrypted(query, model=model)
        if found:
            raise Invalid(f"'{found[0]}' is encrypted, and cannot be searched.")

    def _check_handlers(self, where: tuple[Any, ...]) -> None:
        if self.handlers is None:
            raise KeyMissing(
                f"{_told(where)} was encrypted by a handler, and langgraph.json names none (`encryption.path`)."
            )

    def _check_plain(self, where: tuple[Any, ...]) -> None:
        if self._is_required:
            raise Undecipherable(
                f"{_told(where)} is not encrypted, and TRELLIS_AES_REQUIRED refuses that."
            )

    def _armoured(self, data: bytes, where: tuple[Any, ...]) -> str:
        return base64.b64encode(self._sealed(data, where)).decode()

    def _cipher(self, key_id: bytes, salt: bytes) -> AESGCM:
        found = self._ciphers.get((key_id, salt))
        if found is None:
            # Here, so that nobody who has no key waits for the library.
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            if len(self._ciphers) >= _CIPHERS:
                self._ciphers.clear()
            found = self._ciphers[key_id, salt] = AESGCM(_derived(self._key(key_id), salt))
        return found

    def _key(self, key_id: bytes) -> bytes:
        try:
            return self._keys[key_id]
        except KeyError:
            raise KeyMissing(
                f"A value was encrypted with the key {key_id.hex()}, which this process does not have. Set it as "
                "LANGGRAPH_AES_KEY, or add it to LANGGRAPH_AES_FALLBACK_KEYS."
            ) from None


_OPEN = Vault()


def vault_of(tx: Connection | Engine) -> Vault:
    """The vault of an engine, or of the one that a transaction belongs to."""
    found: Vault = tx.get_execution_options().get(_OPTION, _OPEN)
    return found


def guarded(engine: Engine, vault: Vault) -> Engine:
    """The engine, whose transactions seal and open with the vault."""
    return engine.execution_options(**{_OPTION: vault})


def is_bound(value: Any) -> bool:
    """Whether the value of a JSON column is encrypted with a key, for its row alone."""
    return isinstance(value, Mapping) and SEALED in value


def check_unsealed(value: Mapping[str, Any]) -> None:
    """:raises Invalid: a client's data pretends to be encrypted."""
    if SEALED in value or HOOKED in value:
        raise Invalid(_RESERVED)


def _is_by_hand(value: Any) -> bool:
    """Whether handlers have made the value of a JSON column."""
    return isinstance(value, Mapping) and HOOKED in value


def _key_id(key: bytes) -> bytes:
    return hmac.digest(key, b"trellis key id", "sha256")[:_ID]


def _derived(key: bytes, salt: bytes) -> bytes:
    return hmac.digest(key, b"trellis row key" + salt, "sha256")[: len(key)]


def _bytes(text: Any, where: tuple[Any, ...]) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        data = b""
    if data[:1] != _TAG:
        raise Undecipherable(f"{_told(where)} only pretends to be encrypted.")
    return data


def _told(where: tuple[Any, ...]) -> str:
    return f"The {' '.join(str(each) for each in where)}"
