"""Apps of every kind beside the API, in one process: what reaches which, and who is asked when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask
import httpx
import pytest
from langgraph_sdk import Auth, get_client
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from trellis import loopback
from trellis.api.app import create_app
from trellis.auth import keys
from trellis.auth.access import Access
from trellis.auth.custom import Custom
from trellis.bridge import Bridge
from trellis.domain.http import HttpConfig
from trellis.runtime import Runtime, build
from trellis.settings import Settings
from trellis.site import Site, load_app
from trellis.stream.reader import Reader

PROJECT = Path(__file__).parent / "api" / "project" / "langgraph.json"
KEY, ENTRY = keys.new("a", None)

Serve = Callable[..., Any]
Use = Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]


@pytest.fixture(scope="module")
def settings(new_database: Callable[[], str], new_redis: Callable[[], str]) -> Settings:
    return Settings(
        database_url=new_database(),
        redis_url=new_redis(),
        config_path=PROJECT,
        max_body_bytes=10_000,
    )


@pytest.fixture
def serve(settings: Settings) -> Serve:
    """Serve an app beside the API, and use a client of both."""

    def serve(
        theirs: Any, use: Use, *, asks: bool = True, access: Access | None = None, **http: Any
    ) -> Any:
        rt = build(replace(settings, api_keys=ENTRY if asks else None), access=access)
        rt.manifest = replace(rt.manifest, http=HttpConfig(**http))
        return asyncio.run(_served(rt, theirs, use))

    return serve


async def _served(rt: Runtime, theirs: Any, use: Use) -> Any:
    rt.loop = asyncio.get_running_loop()
    rt.reader = Reader(rt.settings.redis_url)
    api = create_app(rt)
    limit = rt.settings.max_body_bytes
    bridge = Bridge(api, lifespan=lambda: site.lifespan(), threads=4, max_body_bytes=limit)
    site = Site(rt, api, bridge, theirs)
    transport = httpx.ASGITransport(site)
    try:
        async with (
            site.lifespan(),
            httpx.AsyncClient(transport=transport, base_url="http://t") as client,
        ):
            loopback.connect(loopback.Loopback(site))
            return await use(client)
    finally:
        await rt.reader.close()
        rt.close()


class Known(BaseHTTPMiddleware):
    """Tells whether the user is known when the middleware comes to the request."""

    async def dispatch(self, request: Any, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-known"] = "yes" if "user" in request.scope else "no"
        return response


def a_starlette() -> Starlette:
    async def hello(request: Any) -> JSONResponse:
        return JSONResponse({"user": request.scope.get("user") and request.user.identity})

    async def inside(request: Any) -> JSONResponse:
        return JSONResponse(await get_client().threads.create(metadata={"inside": 1}))

    async def body(request: Any) -> JSONResponse:
        return JSONResponse(await request.json())

    return Starlette(
        routes=[
            Route("/hello", hello),
            Route("/inside", inside),
            Route("/body", body, methods=["POST"]),
        ],
        middleware=[Middleware(Known)],
    )


WITH_KEY: Mapping[str, str] = {"x-api-key": KEY}


@pytest.mark.parametrize("auth_first", [False, True])
def test_middleware_order(serve: Serve, auth_first: bool) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        ours = await client.post("/threads", json={}, headers=WITH_KEY)
        assert (ours.status_code, ours.headers["x-known"]) == (200, "yes" if auth_first else "no")

        refused = await client.post("/threads", json={})
        assert refused.status_code == 401
        # Where we ask first, the middleware does not see whom we do not let in.
        assert ("x-known" in refused.headers) is not auth_first

        open_to_all = await client.get("/hello")
        assert (open_to_all.json(), open_to_all.headers["x-known"]) == ({"user": None}, "no")

    serve(a_starlette(), use, auth_first=auth_first)


@pytest.mark.parametrize("auth_first", [False, True])
def test_custom_route_auth(serve: Serve, auth_first: bool) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.get("/hello")).status_code == 401
        assert (await client.get("/hello", headers=WITH_KEY)).json() == {"user": "a"}
        sent = await client.post("/body", json={"x": 1}, headers=WITH_KEY)
        assert sent.json() == {"x": 1}
        assert (await client.get("/nothing")).status_code == 401
        assert (await client.get("/nothing", headers=WITH_KEY)).status_code == 404

    serve(a_starlette(), use, auth_first=auth_first, enable_custom_route_auth=True)


def reads_body() -> Access:
    """Lets in whose body says who they are."""
    auth = Auth()

    @auth.authenticate
    async def authenticate(body: Any) -> str:
        if not (isinstance(body, dict) and body.get("metadata")):
            raise Auth.exceptions.HTTPException(status_code=401, detail="Say who you are")
        return str(body["metadata"]["name"])

    return Custom(auth, openapi={})


@pytest.mark.parametrize("theirs", [None, "starlette"])
def test_authenticator_that_reads_the_body(serve: Serve, theirs: str | None) -> None:
    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(11):
            yield b" " * 1_000
        yield b'{"metadata": {"name": "a"}}'

    async def use(client: httpx.AsyncClient) -> None:
        # Whoever looks for more of the body than there is waits for ever.
        async with asyncio.timeout(30):
            refused = await client.post("/threads", json={})
            unknown = await client.get("/threads/nobody")
            let_in = await client.post("/threads", json={"metadata": {"name": "a"}})
            too_large = await client.post("/threads", content=in_pieces())
        assert (refused.status_code, refused.json()) == (401, {"detail": "Say who you are"})
        assert (unknown.status_code, let_in.status_code, too_large.status_code) == (401, 200, 413)

    serve(a_starlette() if theirs else None, use, access=reads_body())


def test_client_without_url__needs_no_credentials(serve: Serve) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        thread = (await client.get("/inside")).json()
        found = await client.get(f"/threads/{thread['thread_id']}", headers=WITH_KEY)
        assert found.json()["metadata"] == {"inside": 1}

    serve(a_starlette(), use)


def test_root_path__lets_nobody_in(serve: Serve) -> None:
    """What the SDK's own transport says of itself is no credential."""

    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.post("/noauth/threads", json={})).status_code == 404
        headers = {"trellis.who": "internal", "x-trellis-who": "internal"}
        assert (await client.post("/threads", json={}, headers=headers)).status_code == 401

    serve(a_starlette(), use)


def a_flask() -> flask.Flask:
    app = flask.Flask("theirs")

    @app.get("/hello")
    def hello() -> Any:
        return {"root": flask.request.root_path}

    @app.post("/echo")
    def echo() -> Any:
        return flask.Response((part for part in (b"<", flask.request.get_data(), b">")), status=201)

    @app.get("/boom")
    def boom() -> Any:
        raise RuntimeError("boom")

    return app


def test_wsgi_app(serve: Serve) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.get("/api/hello")).json() == {"root": "/api"}
        echoed = await client.post("/api/echo", content=b"abc")
        assert (echoed.status_code, echoed.content) == (201, b"<abc>")
        assert (await client.get("/api/boom")).status_code == 500
        assert (await client.get("/api/nothing")).status_code == 404
        assert (await client.get("/hello")).status_code == 404
        assert (await client.post("/api/threads", json={})).status_code == 200

    serve(a_flask(), use, mount_prefix="/api", asks=False)


def test_wsgi_app__body_that_is_too_large(serve: Serve, settings: Settings) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        refused = await client.post("/echo", content=b"x" * (settings.max_body_bytes + 1))
        assert refused.status_code == 413
        assert str(settings.max_body_bytes) in refused.json()["detail"]

    serve(a_flask(), use, asks=False)


async def plain(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI app that is no framework's, and knows no lifespan."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def test_plain_asgi_app(serve: Serve) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        assert (await client.get("/anything")).text == "/anything"
        assert (await client.get("/ok")).json() == {"ok": True, "services": {}}
        # A path of ours stays ours, whatever the method.
        assert (await client.put("/threads")).status_code == 405

    serve(plain, use, asks=False)


async def broken(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})


def test_app_that_does_not_start(serve: Serve) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        raise AssertionError("it serves")

    with pytest.raises(Exception, match="no database"):
        serve(broken, use, asks=False)


@pytest.mark.parametrize(
    ("group", "method", "path"),
    [
        ("assistants", "POST", "/assistants/search"),
        ("threads", "POST", "/threads"),
        ("threads", "GET", "/threads/01a202c0-3a08-7372-9a72-007cfabe77d4/state"),
        ("runs", "POST", "/runs"),
        ("meta", "GET", "/info"),
        ("meta", "GET", "/docs"),
        ("meta", "GET", "/"),
    ],
)
def test_disabled(serve: Serve, group: str, method: str, path: str) -> None:
    async def use(client: httpx.AsyncClient) -> None:
        response = await client.request(method, path, json={})
        assert (response.status_code, response.json()) == (404, {"detail": "Not Found"})
        said = {"ok": True} if group == "meta" else {"ok": True, "services": {}}
        assert (await client.get("/ok")).json() == said

    serve(None, use, asks=False, disabled=frozenset({group}))


@pytest.fixture
def project(tmp_path: Path, settings: Settings) -> Iterator[Callable[[str], Runtime]]:
    built: list[Runtime] = []

    def make(code: str) -> Runtime:
        (tmp_path / "webapp.py").write_text(code)
        (tmp_path / "langgraph.json").write_text(
            '{"graphs": {"a": "./a.py:g"}, "http": {"app": "./webapp.py:app"}}'
        )
        built.append(build(replace(settings, config_path=tmp_path / "langgraph.json")))
        return built[-1]

    yield make
    for rt in built:
        rt.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [("app = 7", "neither an ASGI nor a WSGI app"), ("1 / 0", "ZeroDivisionError")],
)
def test_load_app__wrong(project: Callable[[str], Runtime], code: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        load_app(project(code).manifest)
