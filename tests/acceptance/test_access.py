"""Two people, or two tenants, on one server, through the official clients; and the operator's own app around it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from langgraph_sdk import get_client, get_sync_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import NotFoundError

from acceptance.system import ANSWER_SECONDS, System, running
from trellis.auth import keys

SITE = Path(__file__).with_name("site")


@pytest.fixture(scope="module")
def owners(new_system: Callable[..., System]) -> Iterator[System]:
    """A server with the operator's own auth and app."""
    env = {"TRELLIS_CONFIG": str(SITE / "langgraph.json")}
    with running(new_system(env=env)) as system:
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system


def as_user(
    system: System, name: str, use: Callable[[LangGraphClient], Awaitable[Any]], **headers: str
) -> Any:
    async def run() -> Any:
        sent = {"Authorization": f"Bearer {name}", **headers}
        async with get_client(url=system.url, headers=sent, timeout=ANSWER_SECONDS) as client:
            return await use(client)

    return asyncio.run(run())


def test_owners__see_only_their_own(owners: System) -> None:
    async def create(client: LangGraphClient) -> Any:
        thread = await client.threads.create(metadata={"a": 1})
        await client.runs.wait(thread["thread_id"], "who", input={})
        return thread

    async def look(client: LangGraphClient) -> Any:
        with pytest.raises(NotFoundError):
            await client.threads.get(thread["thread_id"])
        with pytest.raises(NotFoundError):
            await client.threads.get_state(thread["thread_id"])
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            await client.runs.wait(thread["thread_id"], "who", input={})
        with pytest.raises(NotFoundError):
            await client.threads.delete(thread["thread_id"])
        return await client.threads.search(), await client.threads.count()

    thread = as_user(owners, "alice", create)

    assert thread["metadata"] == {"a": 1, "owner": "alice"}
    assert as_user(owners, "bob", look) == ([], 0)
    [found] = as_user(owners, "alice", lambda client: client.threads.search())
    assert found["thread_id"] == thread["thread_id"]


def test_owners__sync_client(owners: System) -> None:
    def client(name: str) -> Any:
        return get_sync_client(url=owners.url, headers={"Authorization": f"Bearer {name}"})

    with client("carol") as carol, client("dave") as dave:
        thread_id = carol.threads.create()["thread_id"]
        assert carol.threads.get(thread_id)["metadata"] == {"owner": "carol"}
        with pytest.raises(NotFoundError):
            dave.threads.get(thread_id)


def test_user__reaches_the_nodes(owners: System) -> None:
    found = as_user(
        owners,
        "alice",
        lambda client: client.runs.wait(None, "who", input={}),
        **{"X-My-A": "1", "X-My-Secret": "2", "X-Other": "3"},
    )

    assert found["value"] == {
        "user": {"identity": "alice", "vault": "secret of alice"},
        "id": "alice",
        "permissions": ["p-alice"],
        "headers": {"x-my-a": "1"},
    }


def test_user__has_secrets_that_no_stream_tells(owners: System) -> None:
    async def use(client: LangGraphClient) -> list[Any]:
        modes: Any = ["values", "debug", "checkpoints", "tasks", "updates"]
        stream = client.runs.stream(None, "made", input={}, stream_mode=modes)
        return [part async for part in stream]

    parts = as_user(owners, "alice", use)

    assert {part.event for part in parts} >= {"checkpoints", "debug", "tasks", "values"}
    assert "secret of alice" not in str(parts)


def test_user__reaches_the_factory(owners: System) -> None:
    found = as_user(owners, "bob", lambda client: client.runs.wait(None, "made", input={}))

    assert found["value"] == "bob"


def test_client_without_url__inside_a_node(owners: System) -> None:
    found = as_user(owners, "alice", lambda client: client.runs.wait(None, "asks", input={}))

    assert found["value"] == {"inner": "", "status": "idle"}


def get(system: System, path: str, name: str | None = None, **headers: str) -> httpx.Response:
    sent = {**headers, **({"Authorization": f"Bearer {name}"} if name else {})}
    return httpx.get(f"{system.url}{path}", headers=sent, timeout=ANSWER_SECONDS)


def test_app__routes_with_our_authentication(owners: System) -> None:
    nobody, alice = get(owners, "/custom/hello"), get(owners, "/custom/hello", "alice")

    assert (nobody.status_code, nobody.json()) == (401, {"detail": "no token"})
    assert alice.json() == {"hello": "alice", "born": "yes"}


def test_app__middleware_wraps_our_routes(owners: System) -> None:
    ours = get(owners, "/threads", "alice")

    # The middleware comes first: it does not know yet who it is.
    assert (ours.status_code, ours.headers["x-marked"]) == (405, "no")
    assert get(owners, "/ok").json() == {"ok": True, "services": {}}
    assert get(owners, "/threads").headers["x-marked"] == "no"


def test_app__client_without_url(owners: System) -> None:
    found = get(owners, "/custom/run", "alice")

    assert found.json()["value"]["id"] == ""


def test_app__unknown_paths(owners: System) -> None:
    assert get(owners, "/nothing", "alice").status_code == 404
    assert get(owners, "/store/items?key=k", "alice").status_code == 404


def test_app__is_described(owners: System) -> None:
    document = get(owners, "/openapi.json").json()

    assert {"/custom/hello", "/threads"} <= set(document["paths"])
    assert document["security"] == [{"token": []}]


def test_app__lives_as_long_as_the_server(new_system: Callable[..., System]) -> None:
    env = {
        "TRELLIS_CONFIG": str(SITE / "langgraph.json"),
    }
    with running(new_system(env=env)) as system:
        web = system.start_web()
        assert "webapp starts" in web.said()
        web.stop()
        assert "webapp stops" in web.said()


# Tenants

KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def api_keys() -> dict[str, tuple[str, str]]:
    """{tenant: (key, entry)}"""
    return {tenant: keys.new("ci", tenant) for tenant in ("acme", "other")}


@pytest.fixture(scope="module")
def tenants(
    new_system: Callable[..., System],
    api_keys: dict[str, tuple[str, str]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[System]:
    """A server with API keys and tokens, under a prefix."""
    jwks = tmp_path_factory.mktemp("keys") / "jwks.json"
    public = jwt.algorithms.ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    jwks.write_text(json.dumps({"keys": [{**public, "kid": "k"}]}))
    env = {
        "TRELLIS_CONFIG": str(SITE / "langgraph.tenants.json"),
        "TRELLIS_API_KEYS": " ".join(entry for _, entry in api_keys.values()),
        "TRELLIS_JWT_ISSUER": "https://issuer.example",
        "TRELLIS_JWT_AUDIENCE": "trellis",
        "TRELLIS_JWT_JWKS": str(jwks),
        "TRELLIS_JWT_TENANT_CLAIM": "org",
    }
    system = new_system(env=env)
    system.prefix = "/api/v9"
    with running(system) as started:
        worker = started.start("worker")
        started.start_web()
        worker.wait_until_says("worker.ready")
        yield started


def as_tenant(system: System, key: str, use: Callable[[LangGraphClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        url = f"{system.url}/api/v9"
        async with get_client(url=url, api_key=key, timeout=ANSWER_SECONDS) as client:
            return await use(client)

    return asyncio.run(run())


def test_tenants__see_nothing_of_each_other(
    tenants: System, api_keys: dict[str, tuple[str, str]]
) -> None:
    async def create(client: LangGraphClient) -> Any:
        thread = await client.threads.create()
        await client.runs.wait(thread["thread_id"], "who", input={})
        return thread

    async def look(client: LangGraphClient) -> Any:
        with pytest.raises(NotFoundError):
            await client.threads.get_history(thread["thread_id"])
        return await client.threads.search()

    thread = as_tenant(tenants, api_keys["acme"][0], create)

    assert as_tenant(tenants, api_keys["other"][0], look) == []
    assert as_tenant(tenants, api_keys["acme"][0], lambda c: c.threads.count()) >= 1


def test_tenants__have_a_memory_of_their_own(
    tenants: System, api_keys: dict[str, tuple[str, str]]
) -> None:
    def remember(tenant: str, value: str) -> Any:
        async def use(client: LangGraphClient) -> Any:
            return await client.runs.wait(None, "remembers", input={"value": value})

        return as_tenant(tenants, api_keys[tenant][0], use)["value"]

    assert [remember("acme", "a1"), remember("other", "o1")] == [None, None]
    assert [remember("acme", "a2"), remember("other", "o2")] == ["a1", "o1"]


def test_tenants__a_nodes_client_stays_in_its_tenant(
    tenants: System, api_keys: dict[str, tuple[str, str]]
) -> None:
    async def use(client: LangGraphClient) -> Any:
        before = await client.threads.count()
        await client.runs.wait(None, "asks", input={})
        return await client.threads.count() - before

    assert as_tenant(tenants, api_keys["other"][0], use) == 1


def test_token__opens_its_tenant(tenants: System, api_keys: dict[str, tuple[str, str]]) -> None:
    def ask(**claims: Any) -> httpx.Response:
        good = {"iss": "https://issuer.example", "aud": "trellis", "sub": "eve", "org": "acme"}
        token = jwt.encode(
            {**good, "exp": time.time() + 60, **claims}, KEY, "ES256", headers={"kid": "k"}
        )
        return httpx.post(
            f"{tenants.url}/api/v9/threads/count",
            json={},
            headers={"Authorization": f"Bearer {token}"},
        )

    as_tenant(tenants, api_keys["acme"][0], lambda client: client.threads.create())
    assert ask().json() == as_tenant(tenants, api_keys["acme"][0], lambda c: c.threads.count())
    assert ask(org="nobodys").json() == 0
    refused = ask(aud="another")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Bearer")


def test_prefix__is_before_every_path(tenants: System) -> None:
    assert get(tenants, "/api/v9/ok").json() == {"ok": True, "services": {}}
    for path in ("/ok", "/threads", "/api/v9x/ok", "/api/v9/api/v9/ok"):
        assert get(tenants, path).status_code in (401, 404), path
    assert get(tenants, "/ok").json() == {"detail": "Not Found"}


def test_cors__as_configured(tenants: System) -> None:
    def ask(origin: str) -> httpx.Response:
        return get(tenants, "/api/v9/ok", Origin=origin)

    good, bad = ask("https://good.example"), ask("https://bad.example")
    assert good.headers["access-control-allow-origin"] == "https://good.example"
    assert good.headers["access-control-expose-headers"] == "x-a"
    assert "access-control-allow-origin" not in bad.headers

    preflight = httpx.options(
        f"{tenants.url}/api/v9/threads",
        headers={"Origin": "https://bad.example", "Access-Control-Request-Method": "POST"},
    )
    assert (preflight.status_code, preflight.text) == (400, "Disallowed CORS origin, method")
    refused = get(tenants, "/api/v9/threads/x", Origin="https://good.example")
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://good.example"


# Where nobody is asked


def test_web__does_not_listen_to_everybody_unasked(new_system: Callable[..., System]) -> None:
    web = new_system().start("web", TRELLIS_HOST="0.0.0.0")

    assert web.ends() == 2
    assert "TRELLIS_ALLOW_UNAUTHENTICATED=1" in web.said()


def test_web__listens_to_everybody_when_told(new_system: Callable[..., System]) -> None:
    with running(new_system()) as system:
        system.start_web(TRELLIS_HOST="0.0.0.0", TRELLIS_ALLOW_UNAUTHENTICATED="1")
        assert system.request("GET", "/ok").status == 200
