"""Everybody owns what they make, as on the server that the recorded requests with credentials were sent to."""

import operator
from contextlib import asynccontextmanager
from typing import Annotated

from langgraph.graph import START, StateGraph
from langgraph_sdk import Auth
from langgraph_sdk.runtime import ServerRuntime
from recorded import echo
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from typing_extensions import TypedDict

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None):
    if not authorization:
        raise Auth.exceptions.HTTPException(status_code=401, detail="no token")
    name = authorization.removeprefix("Bearer ")
    if name == "boom":
        raise RuntimeError("kaboom")
    if name == "str":
        return "justastring"
    return {"identity": name, "is_authenticated": name != "false", "permissions": ["p1"]}


@auth.on
async def owned(ctx, value):
    if ctx.user.identity == "denied":
        return False
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}


@auth.on.store
async def own_namespace(ctx, value):
    value["namespace"] = (ctx.user.identity, *(value["namespace"] or ()))


class Log(TypedDict, total=False):
    log: Annotated[list, operator.add]


def tell(state: Log, config):
    configurable = config["configurable"]
    user = configurable["langgraph_auth_user"]
    named = [str(type(user)), user.identity, configurable["langgraph_auth_user_id"]]
    return {"log": [sorted(configurable), *named, configurable["langgraph_auth_permissions"]]}


who = StateGraph(Log).add_node("tell", tell).add_edge(START, "tell").compile()


def made(runtime: ServerRuntime):
    return echo


@asynccontextmanager
async def opened(config):
    yield echo


async def hello(request):
    return JSONResponse({"hello": 1, "user": str(request.user)})


app = Starlette(routes=[Route("/custom/hello", hello)])
