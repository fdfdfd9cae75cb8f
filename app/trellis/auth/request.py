"""A request as authenticators see it, whatever server it came through."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is known before anything of the request is done. `body` and `path_params` are looked up when asked for."""

    scope: MutableMapping[str, Any]  #: as ASGI defines it
    body: Callable[[], Awaitable[bytes]]
    path_params: Callable[[], Mapping[str, str]]

    @property
    def method(self) -> str:
        # A WebSocket's handshake is a GET.
        return str(self.scope.get("method", "GET"))

    @property
    def path(self) -> str:
        return str(self.scope["path"])

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        found: Sequence[tuple[bytes, bytes]] = self.scope["headers"]
        return found

    def header(self, name: str) -> str | None:
        """The value of a header, by its name in small letters. None: it was not sent."""
        wanted = name.encode()
        return next((v.decode("latin1") for k, v in self.headers if k == wanted), None)
