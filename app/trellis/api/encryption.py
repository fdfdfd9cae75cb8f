"""What the operator's encryption handlers are told of a request: its header, and what their context handler says."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson
from flask import request

from trellis.api.current import rt, who
from trellis.domain.encryption import context
from trellis.errors import Invalid

HEADER = "X-Encryption-Context"
#: It is stored with every value that is encrypted.
_MOST_BYTES = 4096
_WRONG = f"{HEADER} must be a JSON object of {_MOST_BYTES} bytes at most, in base64."


def tell() -> None:
    """
    Keep what the handlers are told for whatever the request stores. A request without a header that a node of ours
    makes stays in the context of its run.

    :raises Invalid: the header makes no sense.
    :raises EncryptionFailed: the context handler failed.
    """
    handlers = rt().vault.handlers
    if handlers is None:
        return
    header = request.headers.get(HEADER)
    if header is None and who().is_internal:
        return
    told = _parsed(header) if header else {}
    user = who().user
    context.set(told if user is None else handlers.derive(user, told))


def _parsed(header: str) -> Mapping[str, Any]:
    try:
        raw = base64.b64decode(header, validate=True)
        told = orjson.loads(raw)
    except ValueError:
        raise Invalid(_WRONG) from None
    if not isinstance(told, dict) or len(raw) > _MOST_BYTES:
        raise Invalid(_WRONG)
    return told
