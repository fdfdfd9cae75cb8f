"""Cross-origin rules: what a browser may ask, and what it may show to the page that asked."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

from flask import Response, request

from trellis.domain.http import ANYBODY, Cors
from trellis.errors import Denied

_ASKED = (
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, "
    "Access-Control-Request-Private-Network"
)
#: Headers that browsers send without asking.
_SIMPLE = ("Accept", "Accept-Language", "Content-Language", "Content-Type")


def preflight(cors: Cors) -> Response:
    """Answer a browser that asks before it sends."""
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    refused = [name for name, is_allowed in _judged(cors, wanted).items() if not is_allowed]
    said = f"Disallowed CORS {', '.join(refused)}" if refused else "OK"
    response = Response(
        said, status=400 if refused else 200, content_type="text/plain; charset=utf-8"
    )
    response.headers.update(
        {
            "Access-Control-Allow-Methods": ", ".join(cors.allow_methods),
            "Access-Control-Max-Age": str(cors.max_age),
            "Access-Control-Allow-Private-Network": "true",
            "Vary": _ASKED,
        }
    )
    if allowed := _allowed_headers(cors, wanted):
        response.headers["Access-Control-Allow-Headers"] = allowed
    return response


def _judged(cors: Cors, wanted: str) -> dict[str, bool]:
    method = request.headers["Access-Control-Request-Method"]
    names = {name.strip().lower() for name in wanted.split(",") if name.strip()}
    known = {name.lower() for name in (*cors.allow_headers, *_SIMPLE)}
    origin = request.headers.get("Origin")
    return {
        "origin": origin is None or _is_allowed(cors, origin),
        "method": "*" in cors.allow_methods or method in cors.allow_methods,
        "headers": "*" in cors.allow_headers or names <= known,
    }


def _allowed_headers(cors: Cors, wanted: str) -> str:
    if "*" in cors.allow_headers:
        return wanted
    return ", ".join(sorted({*_SIMPLE, *cors.allow_headers}))


def tell(cors: Cors, response: Response) -> Response:
    """Say which page may read an answer."""
    headers = response.headers
    headers.setdefault("Vary", "Origin")
    origin = request.headers.get("Origin")
    if origin is None or not _is_allowed(cors, origin):
        return response
    headers["Access-Control-Allow-Origin"] = "*" if "*" in cors.allow_origins else origin
    if cors.allow_credentials:
        headers["Access-Control-Allow-Credentials"] = "true"
    if request.method != "OPTIONS" and cors.expose_headers:
        headers["Access-Control-Expose-Headers"] = ", ".join(cors.expose_headers)
    return response


def refuse_socket(cors: Cors) -> None:
    """
    Browsers ask nobody before they open a socket from another site.

    :raises Denied: this site may not.
    """
    origin = request.headers.get("Origin")
    if origin is not None and not _is_ours(origin, request.host) and not _is_allowed(cors, origin):
        raise Denied(f"Pages of {origin[:100]} may not use this server", status=403)


def for_socket(cors: Cors, scope: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The handshake of a socket, without the cookies that a browser adds for pages of other sites."""
    headers = dict(scope["headers"])
    origin, host = (headers.get(name, b"").decode("latin1") for name in (b"origin", b"host"))
    if cors.allow_credentials or not origin or _is_ours(origin, host):
        return scope
    kept = [(name, value) for name, value in scope["headers"] if name != b"cookie"]
    return {**scope, "headers": kept}


def _is_ours(origin: str, host: str) -> bool:
    return origin.partition("://")[2] == host


def _is_allowed(cors: Cors, origin: str) -> bool:
    if cors is ANYBODY or "*" in cors.allow_origins or origin in cors.allow_origins:
        return True
    pattern = cors.allow_origin_regex
    return pattern is not None and re.fullmatch(pattern, origin) is not None
