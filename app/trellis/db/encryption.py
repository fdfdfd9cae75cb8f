"""The probe of the encryption at rest: a row by which processes see that they have the key of the others."""

from __future__ import annotations

from functools import partial

from sqlalchemy import Engine

from trellis.db import queries
from trellis.db.engine import Tx
from trellis.db.vault import Vault, vault_of
from trellis.errors import ConfigError, Undecipherable

_row = partial(queries.row, "encryption")
_run = partial(queries.change, "encryption")


def check_key(engine: Engine) -> None:
    """
    Make sure that this process can decrypt what the latest key encrypts; from now on that is its own.

    :raises ConfigError: it does not have that key.
    """
    vault = vault_of(engine)
    with engine.begin() as tx:
        old = _found(tx, vault)
        if old is None:
            return
        try:
            is_own = vault.opens_probe(old)
        except Undecipherable as error:
            raise ConfigError(
                f"{error} This process would not read what is there, nor others what it writes. "
                "(Is the key lost? DELETE FROM encryption_probe gives up what it has encrypted.)"
            ) from None
        _hand_over(tx, vault, old, is_own=is_own)


def _found(tx: Tx, vault: Vault) -> bytes | None:
    """The probe of whoever was here before, if anybody was; otherwise ours is left."""
    mine = vault.probe()
    if mine is not None and _row(tx, "leave", probe=mine):
        return None
    row = _row(tx, "probe")
    return bytes(row["probe"]) if row else None


def _hand_over(tx: Tx, vault: Vault, old: bytes, *, is_own: bool) -> None:
    """After a rotation the new key's probe stands there; none where handlers encrypt everything by now."""
    mine = vault.probe()
    if mine is None:
        _run(tx, "withdraw", old=old)
    elif not is_own:
        _run(tx, "replace", old=old, probe=mine)
