"""An exception of the user's code, as clients see it."""

from __future__ import annotations

#: Longest message kept of an exception, in characters.
_MESSAGE = 10_000


def describe(error: BaseException) -> dict[str, str]:
    """An exception as clients see it: class name and text, without what Postgres and JSON cannot hold."""
    return {"error": type(error).__name__, "message": storable(_text(error)[:_MESSAGE])}


def storable(text: str) -> str:
    """The text without what Postgres and JSON cannot hold."""
    text = text.replace("\x00", "\ufffd")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _text(error: BaseException) -> str:
    """An exception's own text may raise, too."""
    try:
        return str(error)
    except Exception:
        return ""
