"""Access without code: whoever shows an API key or a token belongs to a tenant, and may do everything in it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trellis.auth import keys
from trellis.auth.keys import ApiKey
from trellis.auth.request import Request
from trellis.domain.access import Condition, Principal
from trellis.errors import Denied

if TYPE_CHECKING:
    from trellis.auth.tokens import Tokens

_KEY = {"type": "apiKey", "in": "header", "name": "X-Api-Key"}
_BEARER = {"type": "http", "scheme": "bearer"}


class BuiltIn:
    """Access by API key, by token, or by either."""

    is_open = False
    lets_anybody_in = False

    def __init__(self, api_keys: Sequence[ApiKey], tokens: Tokens | None) -> None:
        self._api_keys = api_keys
        self._tokens = tokens

    @property
    def openapi(self) -> Mapping[str, Any]:
        schemes = {**({"ApiKey": _KEY} if self._api_keys else {}), "Bearer": _BEARER}
        return {"securitySchemes": schemes, "security": [{name: []} for name in schemes]}

    async def authenticate(self, request: Request) -> Principal:
        # Both may be there: the SDKs send any key that they find in the environment as X-Api-Key.
        bearer = _bearer(request)
        presented = [each for each in (bearer, request.header("x-api-key")) if each]
        if not presented:
            raise Denied(
                f"Send {self._expected()}", headers={"WWW-Authenticate": 'Bearer realm="trellis"'}
            )
        for each in presented:
            if found := keys.holder(self._api_keys, each):
                return found
        if self._tokens is None:
            raise Denied("Invalid API key", headers={"WWW-Authenticate": "Bearer"})
        return await asyncio.to_thread(self._tokens.holder, presented[0])

    def _expected(self) -> str:
        key = "an API key as X-Api-Key or as Authorization: Bearer <key>"
        token = "a token as Authorization: Bearer <token>"
        return " or ".join([key] * bool(self._api_keys) + [token] * (self._tokens is not None))

    def decides(self, resource: str, action: str) -> bool:
        return False

    async def decide(
        self, who: Principal, *, resource: str, action: str, value: dict[str, Any]
    ) -> Condition | None:
        return None


def _bearer(request: Request) -> str | None:
    scheme, _, presented = (request.header("authorization") or "").partition(" ")
    return presented.strip() or None if scheme.lower() == "bearer" else None
