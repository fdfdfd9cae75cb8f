"""Identifiers: UUIDv7 for rows we make, and the well-known id of a graph's default assistant."""

from __future__ import annotations

import os
import time
import uuid

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


def default_assistant_id(graph_id: str) -> str:
    """The id of the assistant that every graph has without anybody creating it."""
    return str(uuid.uuid5(ASSISTANT_NAMESPACE, graph_id))
