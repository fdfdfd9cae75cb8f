"""Errors as answers, and in the log where they are ours to find."""

from __future__ import annotations

from flask import Response, request

from trellis import telemetry
from trellis.api import current, wire
from trellis.errors import Denied, KeyMissing, TrellisError, Unavailable


def explain(error: TrellisError) -> Response:
    """What the client is told of an error."""
    headers = dict(error.headers) if isinstance(error, Denied) else {}
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.status >= 500 and not isinstance(error, Unavailable):
        report(error)
    return wire.answer({"detail": error.detail}, status=error.status, headers=headers)


def report(error: Exception) -> None:
    """Log an error that nobody expected."""
    telemetry.log().error(
        telemetry.REQUEST_FAILED,
        request_id=current.request_id(),
        method=request.method,
        path=request.path,
        headers=current.rt().manifest.http.logging_headers.chosen(request.headers.items()),
        error=str(error),
        # Of what the configuration lacks there is nothing to find in the code.
        exc_info=None if isinstance(error, KeyMissing) else error,
    )
