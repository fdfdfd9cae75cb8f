"""What an operator wants of the HTTP side: which routes, who may call them from a browser, which headers count."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

#: Never copied into a run, where others may read it.
SECRET_HEADERS = frozenset(
    {"authorization", "cookie", "proxy-authorization", "x-api-key", "x-service-key", "x-tenant-id"}
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Headers:
    """Which headers are meant, by patterns such as `x-*`. What is excluded is not included."""

    includes: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    def chosen(self, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
        """Those that are meant, by their names in small letters; never credentials."""
        named = ((name.lower(), value) for name, value in headers)
        return {name: value for name, value in named if self._means(name)}

    def _means(self, name: str) -> bool:
        if name in SECRET_HEADERS or any(fnmatchcase(name, each) for each in self.excludes):
            return False
        return any(fnmatchcase(name, each) for each in self.includes)


@dataclass(frozen=True, kw_only=True, slots=True)
class Cors:
    """Which pages of other sites may call us, and how. `*` is any."""

    allow_origins: tuple[str, ...] = ()
    allow_origin_regex: str | None = None
    allow_methods: tuple[str, ...] = ("GET",)
    allow_headers: tuple[str, ...] = ()
    allow_credentials: bool = False
    expose_headers: tuple[str, ...] = ()
    max_age: int = 600


#: Without a word from the operator: any site may read the answers, for there are no cookies here that could be abused.
ANYBODY = Cors(
    allow_origins=("*",),
    allow_methods=("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY"),
    allow_headers=("*",),
    expose_headers=("x-pagination-total", "x-pagination-next", "content-location", "location"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class HttpConfig:
    """`http` of langgraph.json; the app is not imported yet."""

    app: str | None = None
    disabled: frozenset[str] = frozenset()  #: groups of routes that are not served
    cors: Cors = ANYBODY
    configurable_headers: Headers = field(default_factory=Headers)
    logging_headers: Headers = field(default_factory=Headers)
    auth_first: bool = False  #: ask who it is before the app's middleware, instead of after it
    enable_custom_route_auth: bool = False
    mount_prefix: str = ""
