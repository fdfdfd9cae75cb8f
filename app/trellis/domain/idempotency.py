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


def new_key(text: str, *, owner: str, method: str, path: str, body: bytes) -> Key:
    """
    The key of a request; the same text of another owner is another key. `body` is in canonical form: same meaning, same bytes.

    :raises Invalid: the text is no key.
    """
    if not _KEY.fullmatch(text):
        raise Invalid("Idempotency-Key must be 1 to 255 visible ASCII characters")
    request = b"\0".join((method.encode(), path.encode(), body))
    if owner:
        # A user that a filter keeps from a thread must not be shown it as the answer to a key that they guessed.
        text = hashlib.sha256(b"\0".join((owner.encode(), text.encode()))).hexdigest()
    return Key(text, hashlib.sha256(request).hexdigest())
