"""The Idempotency-Key of the request at hand, and the header of an answer that was given before."""

from __future__ import annotations

import orjson
from flask import Response, g, request

from trellis.api.current import who
from trellis.domain.idempotency import Key, new_key

HEADER = "Idempotency-Key"
_REPLAYED = "Idempotency-Replayed"


def key() -> Key | None:
    """
    The key that a create was sent with. The body has been read, so it is JSON, or there is none.

    :raises Invalid: it is no key.
    """
    text = request.headers.get(HEADER)
    if text is None:
        return None
    raw = request.get_data()
    body = orjson.loads(raw) if raw else None
    canonical = orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return new_key(
        text, owner=who().identity, method=request.method, path=request.path, body=canonical
    )


def replayed() -> None:
    """Note that what is answered was made by an earlier request."""
    g.replayed = True


def is_replay() -> bool:
    """Whether that was noted."""
    return "replayed" in g


def tell(response: Response) -> Response:
    """Say so in the response."""
    if is_replay():
        response.headers[_REPLAYED] = "true"
    return response
