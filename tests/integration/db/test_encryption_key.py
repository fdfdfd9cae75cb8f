"""Processes that start with different keys: who may, who may not, and what rotations leave."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from langgraph_sdk import Encryption as Sdk
from sqlalchemy import Engine, text

from trellis.db.encryption import check_key
from trellis.db.handlers import Handlers
from trellis.db.vault import Vault, guarded
from trellis.domain.encryption import Encryption
from trellis.errors import ConfigError

OLD, NEW, OTHER = b"a key of before.", b"the key of today", b"somebody else's!"
MISSING = "which this process does not have.*LANGGRAPH_AES_FALLBACK_KEYS.*DELETE FROM"


def start(engine: Engine, *keys: bytes, handlers: Handlers | None = None) -> None:
    """What a process does first, with these keys; the first one encrypts."""
    check_key(guarded(engine, Vault(Encryption(keys=keys), handlers)))


def probes(engine: Engine) -> int:
    with engine.connect() as tx:
        return int(tx.execute(text("SELECT count(*) FROM encryption_probe")).scalar_one())


def test_check_key(engine: Engine) -> None:
    for _ in range(2):
        start(engine, NEW)
    assert probes(engine) == 1

    for keys in ((), (OTHER,), (OTHER, OLD)):
        with pytest.raises(ConfigError, match=MISSING):
            start(engine, *keys)
    start(engine, NEW)


def test_check_key__nothing_is_encrypted(engine: Engine) -> None:
    start(engine)

    assert probes(engine) == 0


def test_check_key__after_a_rotation(engine: Engine) -> None:
    """While both keys are given to all, old and new processes start in any order."""
    start(engine, OLD)
    for keys in ((OLD, NEW), (NEW, OLD), (OLD, NEW), (NEW, OLD)):
        start(engine, *keys)

    with pytest.raises(ConfigError, match=MISSING):
        start(engine, OLD)
    start(engine, NEW)


def test_check_key__two_at_once(engine: Engine) -> None:
    """One of two keys is the first, and the other one's process does not start."""

    def try_(key: bytes) -> bool:
        try:
            start(engine, key)
        except ConfigError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        began = list(pool.map(try_, [OLD, NEW] * 4))

    assert began in ([True, False] * 4, [False, True] * 4)


def test_check_key__that_was_changed_in_the_database(engine: Engine) -> None:
    start(engine, NEW)
    with engine.begin() as tx:
        tx.execute(text("UPDATE encryption_probe SET probe = set_byte(probe, 40, 0)"))

    with pytest.raises(ConfigError, match="was changed"):
        start(engine, NEW)


@pytest.mark.filterwarnings("ignore:The Encryption API is in beta")
def test_check_key__handlers_encrypt_by_now(engine: Engine) -> None:
    """Once the last old row is gone they need no key any more."""
    sdk = Sdk()

    async def same(_: object, value: object) -> object:
        return value

    for kind in ("blob", "json"):
        getattr(sdk.encrypt, kind)(same)
        getattr(sdk.decrypt, kind)(same)
    handlers = Handlers(sdk)
    start(engine, OLD)
    with pytest.raises(ConfigError, match=MISSING):
        start(engine, handlers=handlers)

    start(engine, OLD, handlers=handlers)

    start(engine, handlers=handlers)
    assert probes(engine) == 0
