"""Identifiers: UUIDv7 for rows we make, and the well-known id of a graph's default assistant."""

from __future__ import annotations

import os
import time
import uuid

from trellis.domain.access import DEFAULT_TENANT

#: Namespace of the ids of default assistants, as the official server derives them (wire: assistants).
ASSISTANT_NAMESPACE = uuid.UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")


def new_id() -> str:
    """Make a UUIDv7 (RFC 9562): its first 48 bits are milliseconds, so ids sort by creation."""
    raw = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + os.urandom(10))
    raw[6] = (raw[6] & 0x0F) | 0x70
    raw[8] = (raw[8] & 0x3F) | 0x80
    return str(uuid.UUID(bytes=bytes(raw)))


def is_uuid(text: str) -> bool:
    """Whether a client's id is a UUID in any spelling Postgres would store."""
    try:
        uuid.UUID(text)
    except (ValueError, AttributeError, TypeError):
        return False
    return True


def default_assistant_id(graph_id: str, tenant_id: str = DEFAULT_TENANT) -> str:
    """The id of the assistant that every graph has without anybody creating it; each tenant has its own."""
    # A graph id may hold a slash, but no NUL: the names of two tenants' assistants cannot meet.
    name = graph_id if tenant_id == DEFAULT_TENANT else f"{tenant_id}\0{graph_id}"
    return str(uuid.uuid5(ASSISTANT_NAMESPACE, name))
