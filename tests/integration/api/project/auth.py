"""Everybody owns what they create, and sees nothing else. The token is the user's name."""

import asyncio
from typing import Any

from langgraph_sdk import Auth

auth = Auth()

#: What the handler puts into the metadata for users of these names.
UNSTORABLE: dict[str, Any] = {
    "nul": {"owner": "a\0b"},
    "half": {"owner": ["\ud800"]},
    "keyless": {7: "owner"},
    "list": ["owner"],
}

#: Every event that was handled, for tests to look at.
seen: list[tuple[str, str, dict[str, Any]]] = []


@auth.authenticate
async def authenticate(authorization: str | None) -> Any:
    if not authorization:
        raise Auth.exceptions.HTTPException(
            status_code=401, detail="no token", headers={"WWW-Authenticate": "Bearer"}
        )
    name = authorization.removeprefix("Bearer ")
    if name == "boom":
        raise RuntimeError("kaboom")
    if name == "teapot":
        raise Auth.exceptions.HTTPException(status_code=418, detail="no coffee")
    if name == "plain":
        return "justastring"
    return {"identity": name, "permissions": ["p1"], "secret": f"s-{name}"}


@auth.on
async def owned(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    seen.append((ctx.resource, ctx.action, dict(value)))
    if ctx.user.identity == "denied":
        return False
    if ctx.user.identity == "endless":
        await asyncio.Event().wait()
    if ctx.user.identity in UNSTORABLE:
        value["metadata"] = UNSTORABLE[ctx.user.identity]
        return None
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}


@auth.on.assistants.read
async def any_assistant(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    if ctx.user.identity == "noassistants":
        return False
    return {"owner": ctx.user.identity}


@auth.on.store
async def own_namespace(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    value["namespace"] = (ctx.user.identity, *(value["namespace"] or ()))
