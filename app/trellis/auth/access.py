"""What the process asks of whichever answer was chosen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from trellis.auth.request import Request
from trellis.domain.access import Condition, Principal


class Access(Protocol):
    """Who may come in, and what they may touch."""

    @property
    def is_open(self) -> bool:
        """Whether nobody is asked who they are."""

    @property
    def lets_anybody_in(self) -> bool:
        """Whether a request without credentials is let in."""

    @property
    def openapi(self) -> Mapping[str, Any]:
        """`securitySchemes` and `security` of the OpenAPI document."""

    async def authenticate(self, request: Request) -> Principal:
        """Tell who a request is from. :raises Denied: they are not let in."""

    def decides(self, resource: str, action: str) -> bool:
        """Whether there is a handler that has a say in this."""

    async def decide(
        self, who: Principal, *, resource: str, action: str, value: dict[str, Any]
    ) -> Condition | None:
        """
        Ask the handler, which may change the value. None: without condition.

        :raises Denied: they may not.
        """


class Open:
    """Everybody may do everything."""

    is_open = True
    lets_anybody_in = True
    openapi: Mapping[str, Any] = {}

    async def authenticate(self, request: Request) -> Principal:
        return Principal()

    def decides(self, resource: str, action: str) -> bool:
        return False

    async def decide(
        self, who: Principal, *, resource: str, action: str, value: dict[str, Any]
    ) -> Condition | None:
        return None
