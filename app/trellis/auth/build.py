"""Chooses the process's access from langgraph.json and the environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trellis import telemetry
from trellis.auth import keys
from trellis.auth.access import Access, Open
from trellis.auth.builtin import BuiltIn
from trellis.auth.cache import Cache
from trellis.auth.keys import ApiKey
from trellis.domain.access import DEFAULT_TENANT
from trellis.errors import ConfigError
from trellis.graphs import loader
from trellis.graphs.manifest import Manifest
from trellis.settings import LOOPBACK, Settings

_CACHE_TTL_SECONDS = 60.0
_CACHE_MAX_SIZE = 1000


def build(settings: Settings, manifest: Manifest) -> Access:
    """
    Make the access of a process; the user's auth module is imported here.

    :raises ConfigError: a setting is wrong, or two of them contradict each other.
    """
    api_keys = keys.parse(settings.api_keys) if settings.api_keys else ()
    rules = settings.jwt
    if manifest.auth.path is not None:
        if api_keys or rules is not None:
            raise ConfigError(
                '"auth.path" and TRELLIS_API_KEYS or TRELLIS_JWT_*: only one can decide who may come in'
            )
        return _custom(settings, manifest)
    if not api_keys and rules is None:
        return Open()
    _check_tenants(settings, manifest, api_keys)
    return _built_in(settings, api_keys)


def check_exposure(settings: Settings, access: Access) -> None:
    """
    Refuse to listen where others can reach a server that asks nobody who they are.

    :raises ConfigError: says what to set.
    """
    if settings.host in LOOPBACK:
        return
    if settings.studio_auth:
        raise ConfigError(
            f"TRELLIS_STUDIO_AUTH lets in whoever says that they are Studio, and {settings.host} can be "
            "reached from other machines. Unset it, or listen on loopback"
        )
    if access.lets_anybody_in and not settings.allow_unauthenticated:
        raise ConfigError(
            f"{settings.host} can be reached from other machines, and nobody would be asked who they are. "
            'Set TRELLIS_API_KEYS (`trellis api-key NAME` makes a key), TRELLIS_JWT_*, or "auth.path" in '
            "langgraph.json; or TRELLIS_ALLOW_UNAUTHENTICATED=1 if something in front of it asks"
        )


def _check_tenants(settings: Settings, manifest: Manifest, api_keys: Sequence[ApiKey]) -> None:
    """The operator's own store knows no tenants, and would show each of them what is the others'."""
    tenants = {key.tenant_id for key in api_keys} - {DEFAULT_TENANT}
    claim = (settings.jwt or {}).get("tenant_claim")
    if manifest.store.path is not None and (tenants or claim):
        raise ConfigError(
            '"store.path" and tenants (in TRELLIS_API_KEYS, or by TRELLIS_JWT_TENANT_CLAIM): a store of your own '
            "knows none, so that they would see what is each other's. Give each tenant a server, or remove the key"
        )


def _built_in(settings: Settings, api_keys: tuple[ApiKey, ...]) -> Access:
    if settings.jwt is None:
        return BuiltIn(api_keys, None)
    # Not at the top: the cryptography behind it takes a while to import.
    from trellis.auth.tokens import TokenRules, Tokens

    return BuiltIn(api_keys, Tokens(TokenRules(**settings.jwt)))


def _custom(settings: Settings, manifest: Manifest) -> Access:
    from langgraph_sdk import Auth

    from trellis.auth.custom import Custom

    assert manifest.auth.path is not None
    found, _ = loader.import_instance(manifest, "auth.path", manifest.auth.path, Auth)
    access = Custom(
        found,
        openapi=manifest.auth.openapi,
        cache=_cache(manifest.auth.cache),
        lets_studio_in=settings.studio_auth and not manifest.auth.disable_studio_auth,
    )
    if unguarded := access.unguarded:
        telemetry.log().warning(telemetry.AUTH_UNGUARDED, resources=unguarded)
    return access


def _cache(given: Mapping[str, Any] | None) -> Cache | None:
    if given is None:
        return None
    return Cache(
        given.get("cache_keys") or ["authorization", "x-api-key"],
        ttl_seconds=given.get("ttl_seconds", _CACHE_TTL_SECONDS),
        max_size=given.get("max_size", _CACHE_MAX_SIZE),
    )
