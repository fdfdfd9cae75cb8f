"""Clients with credentials, and the two worlds they live in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

AUTH_PROJECT = Path(__file__).parents[1] / "project" / "langgraph.auth.json"
KEYS = {"alice": ("acme", "key-of-alice"), "bob": ("other", "key-of-bob")}

CRON = {"assistant_id": "echo", "schedule": "0 0 1 1 *"}
RUN = {"assistant_id": "echo", "input": {"value": "x"}}

only_owners = pytest.mark.parametrize("rt", ["owners"], indirect=True)
only_tenants = pytest.mark.parametrize("rt", ["tenants"], indirect=True)


@dataclass
class Caller:
    """A client with somebody's credentials."""

    client: FlaskClient
    headers: Mapping[str, str]

    def __call__(self, method: str, path: str, body: Any = None) -> TestResponse:
        sent = {} if method == "GET" or body is None else {"json": body}
        return self.client.open(path, method=method, headers=dict(self.headers), **sent)

    def post(self, path: str, body: Any) -> Any:
        response = self("POST", path, body)
        assert response.status_code == 200, response.data
        return response.get_json()


Callers = Mapping[str, Caller]


def callers(app: Flask, how: Callable[[str], Mapping[str, str]]) -> Callers:
    names = ("alice", "bob", "denied", "plain", "boom", "teapot", "noassistants", "endless")
    names += ("nul", "half", "keyless", "list")
    return {name: Caller(app.test_client(), how(name)) for name in names}


def keys() -> str:
    digests = {n: hashlib.sha256(key.encode()).hexdigest() for n, (_, key) in KEYS.items()}
    return ",".join(f"{tenant}/{n}=sha256:{digests[n]}" for n, (tenant, _) in KEYS.items())
