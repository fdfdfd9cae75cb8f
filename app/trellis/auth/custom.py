"""The user's own `langgraph_sdk.Auth`: its authenticator, and its handlers by precedence."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from importlib.util import find_spec
from typing import Any
from urllib.parse import parse_qsl

from langgraph_sdk import Auth
from langgraph_sdk.auth.types import AuthContext, StudioUser

from trellis import telemetry
from trellis.auth.cache import Cache
from trellis.auth.request import Request
from trellis.domain.access import Condition, Principal, condition_of
from trellis.domain.users import User
from trellis.errors import ConfigError, Denied

#: What Studio sends with every request, and who it is then.
_STUDIO_SCHEME = "langsmith"
_STUDIO_NAME = "langgraph-studio-user"
#: Authenticators that block at once.
_THREADS = 32


class Custom:
    """Access as the user's code has it."""

    is_open = False

    def __init__(
        self,
        auth: Auth,
        *,
        openapi: Mapping[str, Any],
        cache: Cache | None = None,
        lets_studio_in: bool = False,
    ) -> None:
        """:raises ConfigError: the authenticator wants something that nobody can give it."""
        self.openapi = openapi
        self._auth = auth
        self._cache = cache
        self._lets_studio_in = lets_studio_in
        self._authenticator = auth._authenticate_handler
        # Not the loop's own few threads: open streams need those.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="auth")
        self.wants = _wanted(self._authenticator) if self._authenticator else frozenset()

    @property
    def lets_anybody_in(self) -> bool:
        return self._authenticator is None

    async def authenticate(self, request: Request) -> Principal:
        """Call the user's authenticator; without one nobody is asked who they are."""
        if self._lets_studio_in and request.header("x-auth-scheme") == _STUDIO_SCHEME:
            return Principal(user=_user(StudioUser(_STUDIO_NAME, is_authenticated=True)))
        if self._authenticator is None:
            return Principal(user=User({"identity": "", "is_authenticated": False}))
        if self._cache is None:
            return await self._identify(self._authenticator, request)
        key = self._cache.key(request)
        found = self._cache.get(key)
        if found is None:
            found = await self._identify(self._authenticator, request)
            self._cache.put(key, found)
        return found

    async def _identify(self, authenticator: Callable[..., Any], request: Request) -> Principal:
        given = await _arguments(self.wants, request)
        try:
            return Principal(user=_user(await self._call(authenticator, given)))
        # The edge to the user's code: whatever it stumbles over, the request is not let in.
        except (Exception, SystemExit) as error:
            raise _refusal(error, "Unauthorized", status=401) from error

    async def _call(self, authenticator: Callable[..., Any], given: Mapping[str, Any]) -> Any:
        """Await it; what is no coroutine function may block, and runs in a thread of its own kind."""
        if _is_async(authenticator):
            return await authenticator(**given)
        call = partial(copy_context().run, authenticator, **given)
        made = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        return await made if inspect.isawaitable(made) else made

    @property
    def unguarded(self) -> list[str]:
        """The resources for which there is no handler at all: whoever comes in may do everything with them."""
        asked = {"threads": "read", "assistants": "read", "crons": "read", "store": "get"}
        handled = {resource for resource, _ in self._auth._handlers}
        return [
            resource
            for resource, action in asked.items()
            if resource not in handled and not self.decides(resource, action)
        ]

    def decides(self, resource: str, action: str) -> bool:
        return self._handler(resource, action) is not None

    async def decide(
        self, who: Principal, *, resource: str, action: str, value: dict[str, Any]
    ) -> Condition | None:
        handler = self._handler(resource, action)
        if handler is None or who.user is None:
            return None
        context = _context(who.user, resource, action)
        try:
            answer = await handler(ctx=context, value=value)
            if isinstance(answer, Mapping):
                return condition_of(answer)
        # Likewise: a handler that fails has allowed nothing.
        except (Exception, SystemExit) as error:
            raise _refusal(error, "Forbidden", status=403) from error
        if answer is None or answer is True:
            return None
        raise Denied("Forbidden", status=403)

    def _handler(self, resource: str, action: str) -> Callable[..., Awaitable[Any]] | None:
        """The most specific one; registered by action alone counts more than for everything."""
        handlers = self._auth._handlers
        for key in ((resource, action), (resource, "*"), ("*", action)):
            if key in handlers:
                return handlers[key][-1]
        return self._auth._global_handlers[-1] if self._auth._global_handlers else None


def _refusal(error: BaseException, detail: str, *, status: int) -> Denied:
    """What the client is told: what an HTTPException says, be it the SDK's or Starlette's; else not why."""
    code = getattr(error, "status_code", None)
    if isinstance(code, int) and 400 <= code <= 599:
        said = getattr(error, "detail", None)
        headers = getattr(error, "headers", None)
        return Denied(str(said or detail), status=code, headers=headers)
    telemetry.log().error(telemetry.AUTH_FAILED, exc_info=error)
    return Denied(detail, status=status)


def _context(user: User, resource: str, action: str) -> AuthContext:
    known: Any = user.origin if isinstance(user.origin, StudioUser) else user
    named: Any = {"resource": resource, "action": action}
    return AuthContext(permissions=user.permissions, user=known, **named)


# What an authenticator takes


def _headers(request: Request) -> dict[bytes, bytes]:
    return dict(request.headers)


async def _json(request: Request) -> Any:
    """The body, if it is JSON and not too deep for Python; why it is refused is for the view to say."""
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        return None


async def _starlette(request: Request) -> Any:
    from starlette.requests import Request as StarletteRequest

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": await request.body(), "more_body": False}

    return StarletteRequest({**request.scope, "type": "http"}, receive)


_GIVEN: Mapping[str, Callable[[Request], Any]] = {
    "request": _starlette,
    "body": _json,
    "path": lambda request: request.path,
    "method": lambda request: request.method,
    "path_params": lambda request: dict(request.path_params()),
    "query_params": lambda request: dict(
        parse_qsl(request.scope.get("query_string", b"").decode("latin1"), keep_blank_values=True)
    ),
    "headers": _headers,
    "authorization": lambda request: request.header("authorization"),
    "scope": lambda request: request.scope,
}


def _wanted(authenticator: Callable[..., Any]) -> frozenset[str]:
    """The names of what it takes. :raises ConfigError: something unknown is among them, and not optional."""
    parameters = inspect.signature(authenticator).parameters.values()
    unknown = [
        each.name
        for each in parameters
        if each.name not in _GIVEN
        and each.default is each.empty
        and each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]
    if unknown:
        raise ConfigError(
            f'"auth.path": the authenticator takes {", ".join(unknown)}; '
            f"it may take: {', '.join(_GIVEN)}"
        )
    wanted = frozenset(each.name for each in parameters) & frozenset(_GIVEN)
    if "request" in wanted and find_spec("starlette") is None:
        raise ConfigError(
            '"auth.path": the authenticator takes request, which is Starlette\'s: install starlette'
        )
    return wanted


def _is_async(authenticator: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(authenticator) or inspect.iscoroutinefunction(
        type(authenticator).__call__
    )


async def _arguments(wanted: frozenset[str], request: Request) -> dict[str, Any]:
    given = {name: _GIVEN[name](request) for name in wanted}
    return {
        name: await value if inspect.isawaitable(value) else value for name, value in given.items()
    }


# What an authenticator returns


def _user(made: Any) -> User:
    """
    The user that an authenticator returned: an id, a mapping or an object.

    :raises TypeError: it has no identity.
    """
    if isinstance(made, str):
        return User({"identity": made})
    fields = dict(made) if isinstance(made, Mapping) else _fields(made)
    if not isinstance(fields.get("identity"), str):
        raise TypeError(f"the authenticator returned {type(made).__name__} without an identity")
    permissions = fields.get("permissions")
    if isinstance(permissions, str) or not isinstance(permissions, Sequence | None):
        raise TypeError("the permissions of a user are a list of texts")
    return User(fields, origin=None if isinstance(made, Mapping) else made)


def _fields(made: Any) -> dict[str, Any]:
    names = ("identity", "display_name", "is_authenticated", "permissions")
    known = {name: getattr(made, name) for name in names if hasattr(made, name)}
    if isinstance(made, StudioUser):
        return {**known, "kind": "StudioUser"}
    for dump in ("model_dump", "to_dict"):
        if callable(getattr(made, dump, None)):
            return {**getattr(made, dump)(), **known}
    if dataclasses.is_dataclass(made) and not isinstance(made, type):
        return {**dataclasses.asdict(made), **known}
    return {**{k: v for k, v in getattr(made, "__dict__", {}).items() if k[0] != "_"}, **known}
