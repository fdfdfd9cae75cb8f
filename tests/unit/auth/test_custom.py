"""A user's `langgraph_sdk.Auth`: what it is given, what it may return, and which handler is asked."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from langgraph_sdk import Auth
from langgraph_sdk.auth import types

from trellis.auth.cache import Cache
from trellis.auth.custom import Custom
from trellis.auth.request import Request
from trellis.domain.access import AllOf, Equals, Principal
from trellis.domain.users import User
from trellis.errors import ConfigError, Denied


def a_request(body: bytes = b"", **headers: str) -> Request:
    async def content() -> bytes:
        return body

    return Request(
        scope={
            "type": "http",
            "method": "POST",
            "path": "/threads/t1/runs",
            "query_string": b"a=1&b=",
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()],
        },
        body=content,
        path_params=lambda: {"thread_id": "t1"},
    )


def custom(authenticator: Any = None, *, auth: Auth | None = None, **given: Any) -> Custom:
    auth = auth or Auth()
    if authenticator:
        auth.authenticate(authenticator)
    return Custom(auth, openapi={}, **given)


def authenticate(authenticator: Any, request: Request | None = None, **given: Any) -> Principal:
    return asyncio.run(custom(authenticator, **given).authenticate(request or a_request()))


def decide(auth: Auth, resource: str, action: str, value: dict[str, Any] | None = None) -> Any:
    who = Principal(user=User({"identity": "a", "permissions": ["p"]}))
    return asyncio.run(
        custom(auth=auth).decide(
            who, resource=resource, action=action, value={} if value is None else value
        )
    )


def test_authenticate__is_given_what_it_names() -> None:
    told: dict[str, Any] = {}

    async def everything(
        request: Any,
        body: Any,
        path: str,
        method: str,
        path_params: Any,
        query_params: Any,
        headers: Mapping[bytes, bytes],
        authorization: str | None,
    ) -> str:
        told.update(locals())
        told["text"] = await request.body()
        return "a"

    authenticate(everything, a_request(b'{"x": 1}', authorization="Bearer t", x_y="z"))

    request = told.pop("request")
    assert (request.method, request.url.path, request.headers["x-y"]) == (
        "POST",
        "/threads/t1/runs",
        "z",
    )
    assert {name: told[name] for name in ("body", "path", "method", "authorization", "text")} == {
        "body": {"x": 1},
        "path": "/threads/t1/runs",
        "method": "POST",
        "authorization": "Bearer t",
        "text": b'{"x": 1}',
    }
    assert told["path_params"] == {"thread_id": "t1"}
    assert told["query_params"] == {"a": "1", "b": ""}
    assert told["headers"] == {b"authorization": b"Bearer t", b"x-y": b"z"}


@pytest.mark.parametrize("sent", [b"{", b"[" * 100_000], ids=["broken", "deep"])
def test_authenticate__body_is_refused_later(sent: bytes) -> None:
    async def authenticator(body: Any) -> str:
        return f"sent {body}"

    assert authenticate(authenticator, a_request(sent)).identity == "sent None"


def test_authenticate__can_take_all_that_the_sdk_promises() -> None:
    promises = str(Auth.authenticate.__doc__) + inspect.getsource(types)
    promised = set(re.findall(r"^ +(?:- )?([a-z_]+) \(.+?\): ", promises, re.MULTILINE))
    assert {"request", "body", "authorization"} < promised
    source = f"async def authenticator({', '.join(sorted(promised))}): return 'a'"
    exec(source, defined := {})

    assert authenticate(defined["authenticator"]).identity == "a"


def test_authenticate__blocking_ones_leave_the_threads_of_the_loop_alone() -> None:
    """Whoever follows a run needs them."""
    done = threading.Event()

    async def while_they_are_taken() -> Principal:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        taken = loop.run_in_executor(None, done.wait)
        try:
            asking = custom(lambda authorization: "a").authenticate(a_request())
            return await asyncio.wait_for(asking, 30)
        finally:
            done.set()
            await taken

    assert asyncio.run(while_they_are_taken()).identity == "a"


def test_authenticate__blocking_one_runs_in_a_thread() -> None:
    threads: list[str] = []

    def blocking(authorization: str | None) -> str:
        threads.append(threading.current_thread().name)
        return "a"

    assert authenticate(blocking).identity == "a"
    assert threads != [threading.current_thread().name]


def test_authenticate__wants_what_nobody_has() -> None:
    async def wants(mood: str) -> str:
        return mood

    with pytest.raises(ConfigError, match="takes mood; it may take: request, body"):
        custom(wants)


def test_authenticate__optional_things_are_left_out() -> None:
    async def wants(authorization: str | None, mood: str = "good") -> str:
        return mood

    assert authenticate(wants).identity == "good"


@dataclass
class Account:
    identity: str
    plan: str = "free"

    def is_paying(self) -> bool:
        return self.plan != "free"


@pytest.mark.parametrize("made", ["a", {"identity": "a", "plan": "free"}, Account("a")], ids=str)
def test_authenticate__what_may_be_returned(made: Any) -> None:
    async def found() -> Any:
        return made

    user = authenticate(found).user

    assert user is not None
    assert (user.identity, user.display_name, user.is_authenticated) == ("a", "a", True)
    if made != "a":
        assert user["plan"] == user.plan == "free"
    if isinstance(made, Account):
        assert user.is_paying() is False


@pytest.mark.parametrize(
    "made",
    [
        None,
        7,
        {},
        {"identity": None},
        {"identity": "a", "permissions": "read"},
        {"identity": "a\0b"},
        "\ud800",
    ],
    ids=ascii,
)
def test_authenticate__what_may_not(made: Any) -> None:
    async def found() -> Any:
        return made

    with pytest.raises(Denied, match="Unauthorized"):
        authenticate(found)


def test_code_that_leaves() -> None:
    """`sys.exit()` would end the web's loop."""
    auth = Auth()

    @auth.on
    async def leaves(ctx: Any = None, value: Any = None) -> Any:
        raise SystemExit(3)

    with pytest.raises(Denied, match="Unauthorized"):
        authenticate(leaves)
    with pytest.raises(Denied, match="Forbidden"):
        decide(auth, "threads", "read")


def test_authenticate__exception_of_starlette() -> None:
    from starlette.exceptions import HTTPException

    async def refuses() -> str:
        raise HTTPException(403, "not today", headers={"x": "y"})

    with pytest.raises(Denied, match="not today") as caught:
        authenticate(refuses)
    assert (caught.value.status, caught.value.headers) == (403, {"x": "y"})


def test_authenticate__studio() -> None:
    async def refuses() -> str:
        raise Auth.exceptions.HTTPException()

    studio = a_request(x_auth_scheme="langsmith")

    assert authenticate(refuses, studio, lets_studio_in=True).identity == "langgraph-studio-user"
    with pytest.raises(Denied):
        authenticate(refuses, studio)


def test_decide__studio_is_told_apart() -> None:
    auth = Auth()

    @auth.on
    async def only_studio(ctx: Auth.types.AuthContext, value: Any) -> bool:
        return isinstance(ctx.user, Auth.types.StudioUser)

    access = custom(auth=auth, lets_studio_in=True)
    who = asyncio.run(access.authenticate(a_request(x_auth_scheme="langsmith")))
    asked = {"resource": "threads", "action": "read", "value": dict[str, Any]()}

    assert asyncio.run(access.decide(who, **asked)) is None  # type: ignore[arg-type]  # a test's shorthand
    with pytest.raises(Denied):
        decide(auth, "threads", "read")


def test_authenticate__cached_by_headers() -> None:
    calls = []

    async def counts(authorization: str | None) -> str:
        calls.append(authorization)
        return authorization or "nobody"

    access = custom(counts, cache=Cache(["Authorization"], ttl_seconds=60, max_size=2))

    def ask(**headers: str) -> str:
        return asyncio.run(access.authenticate(a_request(**headers))).identity

    assert [ask(authorization="a"), ask(authorization="a"), ask(authorization="b")] == [
        "a",
        "a",
        "b",
    ]
    assert [ask(), ask()] == ["nobody", "nobody"]
    assert calls == ["a", "b", None, None]
    ask(authorization="c")
    ask(authorization="a")
    assert calls[4:] == ["c", "a"]


def test_cache__forgets_in_time() -> None:
    cache = Cache(["authorization"], ttl_seconds=-1, max_size=2)
    cache.put(("a",), Principal())

    assert cache.get(("a",)) is None


def an_auth(*keys: str) -> Auth:
    """Handlers that return a filter with their own name."""
    auth = Auth()

    def named(name: str) -> Any:
        async def handler(ctx: Any, value: Any) -> Any:
            return {"by": name}

        return handler

    registers = {
        "threads.read": lambda handler: auth.on.threads.read(handler),
        "threads": lambda handler: auth.on.threads(handler),
        "read": lambda handler: auth.on(actions=["read"])(handler),
        "all": lambda handler: auth.on(handler),
        "threads(actions)": lambda handler: auth.on.threads(actions=["delete"])(handler),
    }
    for key in keys:
        registers[key](named(key))
    return auth


@pytest.mark.parametrize(
    ("keys", "resource", "action", "asked"),
    [
        (("threads.read", "threads", "read", "all"), "threads", "read", "threads.read"),
        (("threads", "read", "all"), "threads", "read", "threads"),
        (("read", "all"), "threads", "read", "read"),
        (("threads", "all"), "assistants", "read", "all"),
        (("threads.read",), "threads", "delete", None),
        # CVE-2026-104873: a handler for some actions must not be asked for the others.
        (("threads(actions)", "all"), "threads", "read", "all"),
        (("threads(actions)", "all"), "threads", "delete", "threads(actions)"),
    ],
    ids=str,
)
def test_decide__precedence(
    keys: tuple[str, ...], resource: str, action: str, asked: str | None
) -> None:
    found = decide(an_auth(*keys), resource, action)

    assert found == (asked and AllOf([Equals("by", asked)]))


def test_unguarded() -> None:
    assert custom(auth=an_auth("threads.read", "threads(actions)")).unguarded == [
        "assistants",
        "crons",
        "store",
    ]
    assert custom(auth=an_auth("all")).unguarded == []


@pytest.mark.parametrize("answer", [None, True])
def test_decide__allows(answer: Any) -> None:
    auth = Auth()

    @auth.on
    async def handler(ctx: Any, value: Any) -> Any:
        value["seen"] = ctx.permissions
        return answer

    value: dict[str, Any] = {}
    assert decide(auth, "threads", "read", value) is None
    assert value == {"seen": ["p"]}


@pytest.mark.parametrize("answer", [False, 0, "yes", 1, {"a": {"$gt": 1}}], ids=str)
def test_decide__forbids_whatever_it_does_not_understand(answer: Any) -> None:
    auth = Auth()

    @auth.on
    async def handler(ctx: Any, value: Any) -> Any:
        return answer

    with pytest.raises(Denied, match="Forbidden") as caught:
        decide(auth, "threads", "read")
    assert caught.value.status == 403
