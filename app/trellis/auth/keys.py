"""API keys: kept as SHA-256 of what only the client knows."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from trellis.domain.access import DEFAULT_TENANT, Principal
from trellis.domain.users import User
from trellis.errors import ConfigError

_ENTRY = re.compile(
    r"(?:(?P<tenant>[\w.@-]{1,100})/)?(?P<name>[\w.@-]{1,100})=sha256:(?P<digest>[0-9a-f]{64})"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ApiKey:
    """Who holds a key."""

    tenant_id: str
    name: str
    digest: bytes


def parse(text: str) -> tuple[ApiKey, ...]:
    """
    Read TRELLIS_API_KEYS: `name=sha256:<64 hex digits>` or `tenant/name=sha256:…`, separated by commas or spaces.

    :raises ConfigError: an entry is none. It is not repeated: it may be a key.
    """
    entries = re.split(r"[,\s]+", text.strip(", \t\r\n"))
    return tuple(_entry(n, entry) for n, entry in enumerate(entries, 1))


def _entry(n: int, entry: str) -> ApiKey:
    found = _ENTRY.fullmatch(entry)
    if found is None:
        raise ConfigError(
            f"TRELLIS_API_KEYS: entry {n} must be name=sha256:<64 hex digits> or "
            "tenant/name=sha256:<64 hex digits>; `trellis api-key NAME` makes one"
        )
    return ApiKey(
        tenant_id=found["tenant"] or DEFAULT_TENANT,
        name=found["name"],
        digest=bytes.fromhex(found["digest"]),
    )


def new(name: str, tenant: str | None) -> tuple[str, str]:
    """
    A new key, and its entry for TRELLIS_API_KEYS.

    :raises ConfigError: the names cannot stand in an entry.
    """
    key = f"trl_{secrets.token_urlsafe(32)}"
    owner = f"{tenant}/{name}" if tenant else name
    entry = f"{owner}=sha256:{hashlib.sha256(key.encode()).hexdigest()}"
    if not _ENTRY.fullmatch(entry):
        raise ConfigError("names are made of letters, digits, and . _ @ -")
    return key, entry


def holder(keys: Sequence[ApiKey], presented: str) -> Principal | None:
    """Who presents a key; None: nobody we know. Every key is compared, in the same time."""
    digest = hashlib.sha256(presented.encode("utf8", "surrogateescape")).digest()
    matching = [key for key in keys if hmac.compare_digest(key.digest, digest)]
    if not matching:
        return None
    return Principal(tenant_id=matching[0].tenant_id, user=User({"identity": matching[0].name}))
