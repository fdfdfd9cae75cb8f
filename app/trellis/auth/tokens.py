"""JSON web tokens: signed by an issuer whose public keys are known, meant for us, and not expired."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt

from trellis import telemetry
from trellis.domain.access import DEFAULT_TENANT, Principal
from trellis.domain.storable import is_storable
from trellis.domain.users import User
from trellis.errors import ConfigError, Denied, Unavailable

#: Signatures that need no shared secret. `none` and HMAC are not among them: a public key must never pass for one.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]

#: Keys are fetched again after this long, and sooner for a key id that is new, but not for each forged one.
_FRESH_SECONDS = 600.0
_AGAIN_SECONDS = 30.0
#: While there are none at all. Whoever comes meanwhile is told so, and does not wait for another attempt.
_DOWN_SECONDS = 2.0
_FETCH_SECONDS = 5.0
_MAX_BYTES = 1 << 20
#: How far the issuer's clock may be from ours.
_LEEWAY_SECONDS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenRules:
    """Which tokens are good, and where they say whose they are."""

    issuer: str
    audience: str
    jwks: str  #: an https:// address, or a file
    tenant_claim: str | None = None  #: None: everybody belongs to one tenant


class Tokens:
    """Verifies tokens. Keys are fetched when the first token comes, so an issuer that is down stops no start."""

    def __init__(self, rules: TokenRules) -> None:
        """:raises ConfigError: the file of keys cannot be read."""
        self._rules = rules
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._tried_at = float("-inf")
        self._lock = threading.Lock()
        if not _is_address(rules.jwks):
            self._keys = _read(Path(rules.jwks))

    def holder(self, token: str) -> Principal:
        """
        Who a token was given to. May fetch the issuer's keys: call it in a thread.

        :raises Denied: it is not good.
        :raises Unavailable: the issuer's keys cannot be had.
        """
        try:
            key = self._key(jwt.get_unverified_header(token))
            claims = jwt.decode(
                token,
                key,
                algorithms=_ALGORITHMS,
                issuer=self._rules.issuer,
                audience=self._rules.audience,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except (jwt.PyJWTError, ValueError) as error:
            raise _bad(str(error)) from None
        return Principal(tenant_id=self._tenant(claims), user=_user(claims))

    def _tenant(self, claims: Mapping[str, Any]) -> str:
        name = self._rules.tenant_claim
        if name is None:
            return DEFAULT_TENANT
        tenant = claims.get(name)
        if not isinstance(tenant, str) or not 0 < len(tenant) <= 200 or not is_storable(tenant):
            raise _bad(f"the claim {name} must name a tenant")
        return tenant

    def _key(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        wanted = header.get("kid")
        with self._lock:
            self._refresh(wanted)
            keys = self._keys
        if wanted is None and len(keys) == 1:
            return next(iter(keys.values()))
        if not isinstance(wanted, str) or wanted not in keys:
            raise jwt.InvalidKeyError("it is signed by a key that is not known")
        return keys[wanted]

    def _refresh(self, wanted: object) -> None:
        if not _is_address(self._rules.jwks):
            return
        age = time.monotonic() - self._tried_at
        again = _AGAIN_SECONDS if self._keys else _DOWN_SECONDS
        if age >= again and (age >= _FRESH_SECONDS or wanted not in self._keys):
            self._fetch()
        # Keys that were good a while ago are better than nobody being let in.
        if not self._keys:
            raise Unavailable("The keys of the token's issuer cannot be had. Try again.")

    def _fetch(self) -> None:
        try:
            self._keys = _fetch(self._rules.jwks)
        except (OSError, ValueError, jwt.PyJWTError) as error:
            telemetry.log().error(telemetry.AUTH_FAILED, jwks=self._rules.jwks, error=str(error))
        # Only now: those who wait for the lock are to find that it was tried just before.
        self._tried_at = time.monotonic()


def _is_address(jwks: str) -> bool:
    return jwks.startswith(("https://", "http://"))


def _read(path: Path) -> Mapping[str, jwt.PyJWK]:
    try:
        return _parse(path.read_bytes())
    except (OSError, ValueError, jwt.PyJWTError) as error:
        raise ConfigError(f"TRELLIS_JWT_JWKS: {path} is no set of keys: {error}") from None


def _fetch(address: str) -> Mapping[str, jwt.PyJWK]:
    request = urllib.request.Request(address, headers={"Accept": "application/json"})
    with urllib.request.urlopen(request, timeout=_FETCH_SECONDS) as response:
        return _parse(response.read(_MAX_BYTES))


def _parse(raw: bytes) -> Mapping[str, jwt.PyJWK]:
    found = json.loads(raw)
    if not isinstance(found, dict):
        raise ValueError("it must be an object with keys")
    # Symmetric keys are no business of whoever only verifies.
    public = [key for key in found.get("keys", []) if key.get("kty") in ("RSA", "EC", "OKP")]
    keys = jwt.PyJWKSet.from_dict({"keys": public}).keys
    return {key.key_id or "": key for key in keys if key.public_key_use in (None, "sig")}


def _user(claims: Mapping[str, Any]) -> User:
    permissions = claims.get("permissions", claims.get("scope", []))
    if isinstance(permissions, str):
        permissions = permissions.split()
    if not isinstance(permissions, list | None):
        raise _bad("the claim permissions must be a list of texts")
    named = {"identity": claims["sub"], "display_name": claims.get("name")}
    try:
        return User({**named, "permissions": [str(each) for each in permissions or []]})
    except ValueError as error:
        raise _bad(str(error)) from None


def _bad(why: str) -> Denied:
    return Denied(
        f"Invalid token: {why}", headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}
    )
