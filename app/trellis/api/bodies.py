"""A response body that comes from the event loop: a view returns it, and gives its thread back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator


class AsyncBody:
    """Chunks that are produced on the event loop of the process. The server iterates them, never a view's thread."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        raise TypeError("An async body is iterated by trellis.asgi or trellis.wsgi")

    async def aclose(self) -> None:
        """Let the chunks clean up: the client left, or all were sent."""
        close = getattr(self.chunks, "aclose", None)
        if close is not None:
            await close()
