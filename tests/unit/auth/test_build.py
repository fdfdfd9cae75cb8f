"""Which access a process gets, and where it may listen with it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trellis.auth import keys
from trellis.auth.access import Open
from trellis.auth.build import build, check_exposure
from trellis.auth.builtin import BuiltIn
from trellis.auth.custom import Custom
from trellis.errors import ConfigError
from trellis.graphs import manifest
from trellis.settings import Settings

SETTINGS = Settings(database_url="postgresql://nowhere/none", redis_url="redis://nowhere")
ENTRY = keys.new("a", None)[1]


def project(folder: Path, auth: Any = None, code: str = "") -> manifest.Manifest:
    (folder / "security.py").write_text(code)
    path = folder / "langgraph.json"
    path.write_text(json.dumps({"graphs": {"a": "./a.py:graph"}, "auth": auth}))
    return manifest.load(path)


def test_build__nothing_said(tmp_path: Path) -> None:
    assert isinstance(build(SETTINGS, project(tmp_path)), Open)


def test_build__keys(tmp_path: Path) -> None:
    access = build(replace(SETTINGS, api_keys=ENTRY), project(tmp_path))

    assert isinstance(access, BuiltIn)
    assert access.openapi["security"] == [{"ApiKey": []}, {"Bearer": []}]


def test_build__code(tmp_path: Path) -> None:
    auth = {
        "path": "./security.py:mine",
        "cache": {"cache_keys": ["authorization"], "ttl_seconds": 1},
        "openapi": {"security": [{"x": []}]},
    }
    access = build(SETTINGS, project(tmp_path, auth, "import langgraph_sdk as s; mine = s.Auth()"))

    assert isinstance(access, Custom)
    assert access.openapi == {"security": [{"x": []}]}


@pytest.mark.parametrize("tenancy", ["keys", "claim"])
def test_build__tenants_and_a_store_that_knows_none(tmp_path: Path, tenancy: str) -> None:
    rules = {"issuer": "i", "audience": "a", "jwks": "keys.json", "tenant_claim": "org"}
    settings = {
        "keys": replace(SETTINGS, api_keys=keys.new("a", "acme")[1]),
        "claim": replace(SETTINGS, jwt=rules),
    }
    path = tmp_path / "langgraph.json"
    path.write_text('{"graphs": {"a": "./a.py:graph"}, "store": {"path": "./s.py:store"}}')

    with pytest.raises(ConfigError, match=r'"store\.path" and tenants'):
        build(settings[tenancy], manifest.load(path))
    assert isinstance(build(replace(SETTINGS, api_keys=ENTRY), manifest.load(path)), BuiltIn)


def test_build__both(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only one"):
        build(replace(SETTINGS, api_keys=ENTRY), project(tmp_path, {"path": "./security.py:mine"}))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("mine = 7", "mine is no langgraph_sdk.Auth"),
        ("other = 7", "has no 'mine'"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_build__code_that_is_wrong(tmp_path: Path, code: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        build(SETTINGS, project(tmp_path, {"path": "./security.py:mine"}, code))
    assert "auth.path" in str(caught.value)


@pytest.mark.parametrize(
    ("auth", "said"),
    [
        ([], 'auth" takes an object'),
        ({"path": 7}, 'auth.path" takes "path/to/file.py:variable"'),
        ({"path": "security"}, "names no variable"),
        ({"disable_studio_auth": True}, 'auth.path" is missing'),
        ({"path": "./a.py:b", "pth": 1}, 'unknown key "pth"'),
        ({"path": "./a.py:b", "cache": {"ttl_seconds": "1"}}, 'auth.cache.ttl_seconds" takes'),
        ({"path": "./a.py:b", "cache": {"max_size": 1.5}}, 'auth.cache.max_size" takes'),
    ],
    ids=str,
)
def test_manifest__auth_that_is_wrong(tmp_path: Path, auth: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        project(tmp_path, auth)


@pytest.mark.parametrize(
    ("settings", "starts"),
    [
        ({"host": "127.0.0.1"}, True),
        ({"host": "::1"}, True),
        ({"host": "0.0.0.0"}, False),
        ({"host": "::"}, False),
        ({"host": "10.0.0.1"}, False),
        ({"host": "0.0.0.0", "allow_unauthenticated": True}, True),
        ({"host": "0.0.0.0", "api_keys": ENTRY}, True),
        ({"host": "0.0.0.0", "api_keys": ENTRY, "studio_auth": True}, False),
        ({"host": "127.0.0.1", "studio_auth": True}, True),
    ],
    ids=lambda given: (
        " ".join(f"{k}={str(v)[:7]}" for k, v in given.items())
        if isinstance(given, dict)
        else str(given)
    ),
)
def test_check_exposure(tmp_path: Path, settings: dict[str, Any], starts: bool) -> None:
    settings_ = replace(SETTINGS, **settings)
    access = build(settings_, project(tmp_path))

    if starts:
        check_exposure(settings_, access)
    else:
        with pytest.raises(ConfigError, match="can be reached from other machines"):
            check_exposure(settings_, access)


def test_check_exposure__handlers_without_authenticator(tmp_path: Path) -> None:
    code = "import langgraph_sdk as s; mine = s.Auth()"
    settings = replace(SETTINGS, host="0.0.0.0")

    with pytest.raises(ConfigError, match="TRELLIS_ALLOW_UNAUTHENTICATED=1"):
        check_exposure(
            settings, build(settings, project(tmp_path, {"path": "./security.py:mine"}, code))
        )
