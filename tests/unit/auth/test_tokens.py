"""Tokens: only those that the issuer signed, for us, not expired, and with a tenant where one is asked for."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from trellis.auth.tokens import TokenRules, Tokens
from trellis.errors import ConfigError, Denied, Unavailable

ISSUER, AUDIENCE = "https://issuer.example", "trellis"
KEY, OTHER = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def jwk(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    found = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": kid, "use": "sig", "alg": "ES256"}


@pytest.fixture
def rules(tmp_path: Path) -> TokenRules:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps({"keys": [jwk(KEY, "k1"), {"kty": "oct", "k": "AAAA", "kid": "s"}]}))
    return TokenRules(issuer=ISSUER, audience=AUDIENCE, jwks=str(file), tenant_claim="org")


def token(key: Any = KEY, *, kid: str = "k1", algorithm: str = "ES256", **claims: Any) -> str:
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "exp": time.time() + 60, "org": "acme"}
    payload = {name: value for name, value in {**good, **claims}.items() if value is not None}
    return jwt.encode(payload, key, algorithm=algorithm, headers={"kid": kid})


def test_holder(rules: TokenRules) -> None:
    found = Tokens(rules).holder(token(scope="read write", name="Alice A."))

    assert (found.tenant_id, found.identity) == ("acme", "alice")
    assert found.user is not None
    assert (found.user.permissions, found.user.display_name) == (["read", "write"], "Alice A.")


@pytest.mark.parametrize(
    "wrong",
    [
        {"iss": "https://evil.example"},
        {"aud": "another"},
        {"exp": 1},
        {"exp": None},
        {"sub": None},
        {"sub": 7},
        {"sub": "a\0b"},
        {"sub": "\ud800"},
        {"nbf": time.time() + 3600},
        {"permissions": 5},
        {"org": None},
        {"org": ""},
        {"org": {"$ne": ""}},
        {"org": "a\0b"},
        {"org": "\ud800"},
        {"kid": "k2"},
        {"key": OTHER},
        {"key": "x" * 32, "algorithm": "HS256"},
        {"key": "x" * 32, "algorithm": "HS256", "kid": "s"},
        {"key": None, "algorithm": "none"},
    ],
    ids=lambda wrong: "-".join(wrong),
)
def test_holder__not_good(rules: TokenRules, wrong: dict[str, Any]) -> None:
    with pytest.raises(Denied, match="Invalid token"):
        Tokens(rules).holder(token(**wrong))


@pytest.mark.parametrize("text", ["", "a.b.c", "...", "é" * 9, "e30.e30.e30"])
def test_holder__no_token(rules: TokenRules, text: str) -> None:
    with pytest.raises(Denied):
        Tokens(rules).holder(text)


def test_holder__public_key_as_secret(rules: TokenRules) -> None:
    """The classic confusion: what everybody knows must not be what a token is signed with."""
    from cryptography.hazmat.primitives import serialization

    pem = KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    forged = jwt.encode({"sub": "alice"}, "x" * 32, headers={"kid": "k1"}, algorithm="HS256")
    assert pem

    with pytest.raises(Denied):
        Tokens(rules).holder(forged)


def test_holder__without_tenants(rules: TokenRules) -> None:
    found = Tokens(replace(rules, tenant_claim=None)).holder(token(org="acme"))

    assert found.tenant_id == "default"


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of an issuer that is down, and what it was asked for."""
    paths: list[str] = []

    class Down(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Down) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/jwks", paths
        server.shutdown()
        thread.join()


def test_holder__issuer_is_down(
    rules: TokenRules, asked: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests do not wait for it one after the other: they have the threads of the process meanwhile."""
    monkeypatch.setattr("trellis.auth.tokens._DOWN_SECONDS", 600.0)
    address, paths = asked
    tokens = Tokens(replace(rules, jwks=address))

    for _ in range(3):
        with pytest.raises(Unavailable):
            tokens.holder(token())

    assert paths == ["/jwks"]


def test_tokens__no_keys(rules: TokenRules, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]")

    for name in ("none.json", "bad.json"):
        with pytest.raises(ConfigError, match="TRELLIS_JWT_JWKS"):
            Tokens(replace(rules, jwks=str(tmp_path / name)))
