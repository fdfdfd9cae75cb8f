"""Every environment variable, read once into one frozen, validated object."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from trellis.errors import ConfigError

T = TypeVar("T")

#: Hosts that only this machine can reach.
LOOPBACK = ("127.0.0.1", "::1", "localhost")

#: Variables of LangGraph Server that change nothing here: said at the start, so that nobody relies on them.
WITHOUT_EFFECT = (
    "A2A_A2UI_ENABLED",
    "A2A_A2UI_TOOL_CALL_RESULTS",
    "A2A_ALLOWED_TOOL_CALL_RESULTS",
    "AGENT_POSTGRES_IAM_AUTH_PROVIDER",
    "AGENT_REDIS_IAM_AUTH_PROVIDER",
    "BG_JOB_ISOLATED_LOOPS",
    "DD_API_KEY",
    "EXPOSE_INTERNAL_METRICS_PROMETHEUS",
    "FF_LOG_DROPPED_EVENTS",
    "FF_OPTIMIZED_STREAMING",
    "FF_V2_EVENT_STREAMING",
    "LANGGRAPH_AUTH",
    "LANGGRAPH_AUTH_TYPE",
    "LANGGRAPH_CHECKPOINTER",
    "LANGGRAPH_CHECKPOINTER_POSTGRES_POOL_MIN_SIZE",
    "LANGGRAPH_CHECKPOINTER_POSTGRES_POOL_TIMEOUT_SECONDS",
    "LANGGRAPH_CLOUD_LICENSE_KEY",
    "LANGGRAPH_ENCRYPTION",
    "LANGGRAPH_HTTP",
    "LANGGRAPH_PRIORITY",
    "LANGGRAPH_STORE",
    "LANGGRAPH_UI",
    "LANGGRAPH_UI_CONFIG",
    "LANGGRAPH_WEBHOOKS",
    "LANGSERVE_GRAPHS",
    "LSD_PROM_METRICS_ENABLED",
    "LSD_PROM_METRICS_PORT",
    "LSD_RUN_QUEUE_TRACE_LOG",
    "LS_APM_OTEL_ENABLED",
    "LS_CHECKPOINT_DELETE",
    "LS_DEFAULT_CHECKPOINTER_BACKEND",
    "LS_MONGODB_URI",
    "LS_RATE_LIMITS",
    "PREFER_GRPC_CHECKPOINTER",
    "REDIS_CLUSTER",
    "REDIS_MAX_CONNECTIONS",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a process needs to know before it starts. docs/configuration.md explains each variable."""

    database_url: str
    redis_url: str
    redis_key_prefix: str = ""
    config_path: Path | None = None
    #: A development server: whoever reaches it may empty it.
    dev: bool = False
    host: str = "127.0.0.1"
    port: int = 2024
    web_threads: int = 32
    database_pool_size: int = 8
    max_body_bytes: int = 10 * 1024 * 1024
    #: Runs that one worker process executes at once.
    slots: int = 256
    #: Such processes under one `trellis worker`.
    worker_processes: int = 1
    #: A worker process beyond either is replaced; 0: never.
    worker_max_memory_mb: int = 0
    worker_max_runs: int = 0
    #: Longest that a worker lets runs go on after SIGTERM before it hands them back.
    drain_seconds: float = 25.0
    run_timeout_seconds: float = 86_400.0
    #: How often a run is tried again whose process died.
    max_retries: int = 2
    stream_ttl_seconds: int = 120
    stream_max_events: int = 10_000
    task_events: bool = True
    webhook_secrets: tuple[bytes, ...] = field(default=(), repr=False)
    log_level: str = "INFO"
    log_json: bool = False
    log_color: bool | None = None  #: None: where a person reads it
    #: Who may come in without `auth.path`: see trellis.auth.
    api_keys: str | None = None
    jwt: Mapping[str, str] | None = None
    allow_unauthenticated: bool = False
    studio_auth: bool = False
    flower_port: int = 5555
    flower_basic_auth: str | None = None


def load(env: Mapping[str, str] | None = None) -> Settings:
    """
    Read the settings of this process.

    :raises ConfigError: names the variable, and what it takes.
    """
    env = os.environ if env is None else env
    return Settings(
        database_url=_required(
            env, "DATABASE_URL", "DATABASE_URI", "POSTGRES_URI_CUSTOM", "POSTGRES_URI"
        ),
        redis_url=redis_url(_required(env, "REDIS_URL", "REDIS_URI_CUSTOM", "REDIS_URI")),
        redis_key_prefix=env.get("REDIS_KEY_PREFIX", ""),
        config_path=config_path(env),
        dev=_flag(env, "TRELLIS_DEV", False),
        host=env.get("TRELLIS_HOST", "0.0.0.0" if "PORT" in env else "127.0.0.1"),
        port=_number(env, "PORT", int, 2024, low=0, high=65535),
        web_threads=_number(env, "TRELLIS_WEB_THREADS", int, 32, low=1, high=512),
        database_pool_size=_number(
            env,
            _first(env, "TRELLIS_DATABASE_POOL_SIZE", "LANGGRAPH_POSTGRES_POOL_MAX_SIZE"),
            int,
            8,
            low=2,
            high=500,
        ),
        max_body_bytes=_number(env, "HTTP_MAX_REQUEST_BODY_BYTES", int, 10 * 1024 * 1024, low=1),
        slots=_number(env, "N_JOBS_PER_WORKER", int, 256, low=1, high=10_000),
        worker_processes=_number(env, "TRELLIS_WORKER_PROCESSES", int, 1, low=1, high=256),
        worker_max_memory_mb=_number(env, "TRELLIS_WORKER_MAX_MEMORY_MB", int, 0, low=0),
        worker_max_runs=_number(env, "TRELLIS_WORKER_MAX_RUNS", int, 0, low=0),
        drain_seconds=_number(
            env,
            _first(env, "TRELLIS_DRAIN_SECONDS", "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS"),
            float,
            25.0,
            low=0,
        ),
        run_timeout_seconds=_number(env, "BG_JOB_TIMEOUT_SECS", float, 86_400.0, low=0.001),
        max_retries=_number(
            env,
            _first(env, "TRELLIS_MAX_RETRIES", "BG_JOB_MAX_RETRIES"),
            int,
            2,
            low=0,
            high=100,
        ),
        stream_ttl_seconds=_number(env, "RESUMABLE_STREAM_TTL_SECONDS", int, 120, low=1),
        stream_max_events=_number(env, "TRELLIS_STREAM_MAX_EVENTS", int, 10_000, low=100),
        task_events=_flag(env, "TRELLIS_TASK_EVENTS", True),
        webhook_secrets=_secrets(env, "TRELLIS_WEBHOOK_SECRET"),
        log_level=_choice(env, "LOG_LEVEL", "INFO", ("DEBUG", "INFO", "WARNING", "ERROR")),
        log_json=_flag(env, "LOG_JSON", False),
        log_color=_flag(env, "LOG_COLOR", True) if env.get("LOG_COLOR") else None,
        api_keys=env.get("TRELLIS_API_KEYS") or None,
        jwt=_jwt(env),
        allow_unauthenticated=_flag(env, "TRELLIS_ALLOW_UNAUTHENTICATED", False),
        studio_auth=_flag(env, "TRELLIS_STUDIO_AUTH", False),
        flower_port=_number(env, "PORT", int, 5555, low=0, high=65535),
        flower_basic_auth=env.get("TRELLIS_FLOWER_BASIC_AUTH") or None,
    )


def without_effect(env: Mapping[str, str]) -> list[str]:
    """Which of the variables that are set change nothing."""
    return [name for name in WITHOUT_EFFECT if env.get(name)]


def _jwt(env: Mapping[str, str]) -> dict[str, str] | None:
    """The rules of tokens, all of those needed or none."""
    names = {"issuer": "TRELLIS_JWT_ISSUER", "audience": "TRELLIS_JWT_AUDIENCE"}
    names |= {"jwks": "TRELLIS_JWT_JWKS"}
    given = {key: env[name] for key, name in names.items() if env.get(name)}
    if not given and not env.get("TRELLIS_JWT_TENANT_CLAIM"):
        return None
    if missing := [name for key, name in names.items() if key not in given]:
        raise ConfigError(f"{', '.join(missing)} must be set too, so that tokens can be checked")
    address = urlsplit(given["jwks"])
    is_local = address.scheme == "http" and address.hostname in ("127.0.0.1", "localhost")
    if address.scheme not in ("", "https") and not is_local:
        raise ConfigError("TRELLIS_JWT_JWKS must be an https:// address, or the path of a file")
    tenant = env.get("TRELLIS_JWT_TENANT_CLAIM")
    return {**given, **({"tenant_claim": tenant} if tenant else {})}


def config_path(env: Mapping[str, str]) -> Path | None:
    """Where langgraph.json is: TRELLIS_CONFIG, else the current folder's, else nowhere."""
    if given := env.get("TRELLIS_CONFIG"):
        return Path(given).resolve()
    here = Path("langgraph.json")
    return here.resolve() if here.is_file() else None


def redis_url(url: str) -> str:
    """
    Normalise a Redis URL so that redis-py, kombu and Flower agree on certificate checks.

    Heroku-like platforms serve rediss:// with self-signed certificates: on their hosts, and only
    there, the check is switched off, as their own documentation asks.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss", "valkey", "valkeys"):
        raise ConfigError(f"REDIS_URL must begin with redis:// or rediss://, not {parts.scheme}://")
    scheme = parts.scheme.replace("valkeys", "rediss").replace("valkey", "redis")
    query = dict(parse_qsl(parts.query))
    host = parts.hostname or ""
    if scheme == "rediss" and host.endswith(".amazonaws.com") and ".compute" in host:
        query.setdefault("ssl_cert_reqs", "none")
    return urlunsplit((scheme, parts.netloc, parts.path, urlencode(query), ""))


def _first(env: Mapping[str, str], ours: str, theirs: str) -> str:
    """The name under which a value is given: ours, else that of LangGraph Server."""
    return theirs if env.get(theirs) and not env.get(ours) else ours


def _required(env: Mapping[str, str], *names: str) -> str:
    for name in names:
        if value := env.get(name):
            return value
    raise ConfigError(
        f"{names[0]} is not set. It takes the URL of the server; `trellis dev` brings its own."
    )


def _number(
    env: Mapping[str, str],
    name: str,
    kind: Callable[[str], T],
    default: T,
    *,
    low: float,
    high: float = float("inf"),
) -> T:
    raw = env.get(name)
    if raw is None or raw == "":
        return default
    value: T | None
    try:
        value = kind(raw)
    except ValueError:
        value = None
    if value is None or not low <= value <= high:  # type: ignore[operator]  # kind is int or float
        bound = f"between {low:g} and {high:g}" if high < float("inf") else f"of at least {low:g}"
        raise ConfigError(f"{name} must be a number {bound}, not {raw!r}")
    return value


def _secrets(env: Mapping[str, str], name: str) -> tuple[bytes, ...]:
    try:
        return tuple(_secret(each) for each in env.get(name, "").split())
    # What was given must not be in a log.
    except ValueError:
        raise ConfigError(
            f"{name} must be whsec_ and 24 to 64 bytes in base64, or several of these between spaces"
        ) from None


def _secret(text: str) -> bytes:
    """The key in a secret of Standard Webhooks. :raises ValueError: it is none."""
    prefix, _, encoded = text.partition("_")
    key = base64.b64decode(encoded, validate=True)
    if prefix != "whsec" or not 24 <= len(key) <= 64:
        raise ValueError("not a secret")
    return key


def _flag(env: Mapping[str, str], name: str, default: bool) -> bool:
    raw = env.get(name, "").lower()
    if raw in ("1", "true", "yes", "on"):
        return True
    if raw in ("0", "false", "no", "off"):
        return False
    if raw:
        raise ConfigError(f"{name} must be true or false, not {raw!r}")
    return default


def _choice(env: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = env.get(name, default).upper()
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")
    return value
