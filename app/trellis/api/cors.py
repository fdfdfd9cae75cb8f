"""Cross-origin rules: what a browser may ask, and what it may show to the page that asked."""

from __future__ import annotations

import re

from flask import Response, request

from trellis.domain.http import ANYBODY, Cors

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


def _is_allowed(cors: Cors, origin: str) -> bool:
    if cors is ANYBODY or "*" in cors.allow_origins or origin in cors.allow_origins:
        return True
    pattern = cors.allow_origin_regex
    return pattern is not None and re.fullmatch(pattern, origin) is not None
