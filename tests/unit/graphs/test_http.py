"""`http` of langgraph.json, and what its headers mean."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.http import ANYBODY, Headers
from trellis.errors import ConfigError
from trellis.graphs import http


def test_parse__absent() -> None:
    found = http.parse("f", None, environ={})

    assert (found.app, found.disabled, found.mount_prefix) == (None, frozenset(), "")
    assert found.cors is ANYBODY


def test_parse() -> None:
    found = http.parse(
        "f",
        {
            "app": "./a.py:app",
            "disable_store": True,
            "disable_runs": False,
            "middleware_order": "auth_first",
            "mount_prefix": "/api/v9",
            "cors": {"allow_origins": ["https://a.example"], "max_age": 7},
            "configurable_headers": {"includes": ["X-My-*"], "excludes": ["x-my-secret"]},
        },
        environ={"CORS_ALLOW_ORIGINS": "https://b.example"},
    )

    assert found.disabled == {"store"}
    assert (found.auth_first, found.mount_prefix) == (True, "/api/v9")
    assert (found.cors.allow_methods, found.cors.max_age) == (("GET",), 7)
    assert found.cors.allow_origins == ("https://a.example",)
    assert found.configurable_headers.includes == ("x-my-*",)


def test_parse__prefix_of_the_environment() -> None:
    environ = {"MOUNT_PREFIX": "/a"}

    assert http.parse("f", None, environ=environ).mount_prefix == "/a"
    assert http.parse("f", {"mount_prefix": "/b"}, environ=environ).mount_prefix == "/b"


def test_parse__origins_of_the_environment() -> None:
    def origins(given: str) -> tuple[str, ...]:
        cors = http.parse("f", {}, environ={"CORS_ALLOW_ORIGINS": given}).cors
        assert (cors.allow_methods, cors.expose_headers) == (
            ANYBODY.allow_methods,
            ANYBODY.expose_headers,
        )
        return cors.allow_origins

    assert origins("https://a.example, http://localhost:3000") == (
        "https://a.example",
        "http://localhost:3000",
    )
    assert origins("") == origins("*") == origins("https://a.example,*") == ("*",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MOUNT_PREFIX", "a/"),
        ("CORS_ALLOW_ORIGINS", "a.example"),
        ("CORS_ALLOW_ORIGINS", "https://a.example/"),
        ("CORS_ALLOW_ORIGINS", "https://*.example,https://a b"),
    ],
)
def test_parse__nonsense_in_the_environment(name: str, value: str) -> None:
    with pytest.raises(ConfigError, match=name):
        http.parse("f", None, environ={name: value})


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ([], 'http" takes an object'),
        ({"ap": "x"}, 'unknown key "ap"'),
        ({"app": 7}, 'http.app" takes'),
        ({"disable_runs": "yes"}, 'http.disable_runs" takes true or false'),
        ({"middleware_order": "first"}, 'http.middleware_order" takes'),
        ({"mount_prefix": "api"}, 'http.mount_prefix" takes a path'),
        ({"mount_prefix": "/api/"}, 'http.mount_prefix" takes a path'),
        ({"cors": {"allow_origins": "*"}}, 'http.cors.allow_origins" takes a list'),
        ({"cors": {"allow_origin_regex": "("}}, "takes a regular expression"),
        ({"cors": {"allow_origins": ["*"], "allow_credentials": True}}, "any site could act"),
        ({"configurable_headers": {"include": []}}, 'unknown key "include"'),
        (
            {"configurable_headers": {"includes": ["Authorization"]}},
            "authorization would be stored",
        ),
        ({"logging_headers": {"includes": ["cookie"]}}, "cookie would be in the log"),
    ],
    ids=str,
)
def test_parse__wrong(raw: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        http.parse("f", raw, environ={})


def test_chosen() -> None:
    headers = Headers(includes=("x-*",), excludes=("x-secret-*",))
    sent = [("X-A", "1"), ("X-Secret-B", "2"), ("Accept", "3"), ("X-Api-Key", "4")]

    assert headers.chosen(sent) == {"x-a": "1"}


def test_chosen__everything_but_credentials() -> None:
    sent = [("A", "1"), ("Authorization", "2"), ("Cookie", "3"), ("X-Tenant-Id", "4")]

    assert Headers(includes=("*",)).chosen(sent) == {"a": "1"}
    assert Headers().chosen(sent) == {}
