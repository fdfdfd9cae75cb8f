"""What makes two requests the same one."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from trellis.errors import Invalid

_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(frozen=True, slots=True)
class Key:
    """A client's idempotency key, and what it was sent with."""

    text: str
    fingerprint: str


def new_key(text: str, *, method: str, path: str, body: bytes) -> Key:
    """
    The key of a request. `body` is in canonical form: same meaning, same bytes.

    :raises Invalid: the text is no key.
    """
    if not _KEY.fullmatch(text):
        raise Invalid("Idempotency-Key must be 1 to 255 visible ASCII characters")
    request = b"\0".join((method.encode(), path.encode(), body))
    return Key(text, hashlib.sha256(request).hexdigest())
