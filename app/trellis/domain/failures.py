"""An exception of the user's code, as clients see it."""

from __future__ import annotations

#: Longest message kept of an exception, in characters.
_MESSAGE = 10_000


def describe(error: BaseException) -> dict[str, str]:
    """An exception as clients see it: class name and text, without what Postgres and JSON cannot hold."""
    text = str(error)[:_MESSAGE].replace("\x00", "\ufffd")
    return {
        "error": type(error).__name__,
        "message": text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"),
    }
