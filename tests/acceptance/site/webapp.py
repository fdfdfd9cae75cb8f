"""A FastAPI app beside the API: a route, a middleware around everything, a life, and a client of the API."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from langgraph_sdk import get_client
from starlette.types import ASGIApp, Message, Receive, Scope, Send


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    print("webapp starts", flush=True)
    yield {"born": "yes"}
    print("webapp stops", flush=True)


class Mark:
    """Puts a header on every answer, and tells whether the user was known by then."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                known = b"yes" if "user" in scope else b"no"
                message["headers"] = [*message["headers"], (b"x-marked", known)]
            await send(message)

        await self.app(scope, receive, marked)


app = FastAPI(lifespan=lifespan)
app.add_middleware(Mark)


@app.get("/custom/hello")
async def hello(request: Request) -> dict[str, Any]:
    return {"hello": request.user.identity, "born": request.state.born}


@app.get("/custom/run")
async def run() -> Any:
    """Run a graph in the same process's API."""
    return await get_client().runs.wait(None, "who", input={})


@app.get("/ok")
async def shadow() -> dict[str, bool]:
    return {"shadowed": True}
