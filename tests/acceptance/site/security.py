"""Everybody owns what they create. The token is the user's name."""

from typing import Any

from langgraph_sdk import Auth

auth = Auth()


@auth.authenticate
async def authenticate(headers: dict[bytes, bytes]) -> Any:
    token = headers.get(b"authorization", b"").decode()
    if not token.startswith("Bearer "):
        raise Auth.exceptions.HTTPException(status_code=401, detail="no token")
    name = token.removeprefix("Bearer ")
    return {"identity": name, "permissions": [f"p-{name}"], "vault": f"secret of {name}"}


@auth.on
async def owned(ctx: Auth.types.AuthContext, value: dict[str, Any]) -> Any:
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}
