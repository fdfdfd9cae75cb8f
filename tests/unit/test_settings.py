"""Environment variables: every spelling platforms use, and a clear word on nonsense."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from trellis.db.engine import normalize_url
from trellis.errors import ConfigError
from trellis.graphs import encryption, http
from trellis.settings import WITHOUT_EFFECT, Settings, load, redis_url

ROOT = Path(__file__).parents[2]
NEEDED = {"DATABASE_URL": "postgres://u:p@h/d", "REDIS_URL": "redis://h:6379/0"}


class Asked(Mapping[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self.given = given
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return self.given[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.given)

    def __len__(self) -> int:
        return len(self.given)


@pytest.fixture(scope="module")
def sources() -> list[ast.AST]:
    """Every node of the program."""
    files = [path for top in ("app", "workers") for path in (ROOT / top).rglob("*.py")]
    return [node for path in files for node in ast.walk(ast.parse(path.read_text()))]


@pytest.fixture(scope="module")
def asked() -> set[str]:
    """The variables that are read, the last spelling of each included."""
    environ = Asked({"POSTGRES_URI": "postgres://h/d", "REDIS_URI": "redis://h"})
    load(environ)
    http.parse("", None, environ=environ)
    encryption.parse("", None, environ=environ)
    return environ.names


def test_variables__are_those_of_the_manual(asked: set[str]) -> None:
    manual = (ROOT / "docs" / "configuration.md").read_text()
    table = manual.split("## Environment")[1].split("\n##")[0]
    cells = re.findall(r"^\| (`[A-Z].*?) \|", table, re.MULTILINE)

    assert set(re.findall(r"`([A-Z][A-Z0-9_]+)`", " ".join(cells))) == asked


def test_variables__none_is_read_elsewhere(asked: set[str], sources: list[ast.AST]) -> None:
    texts = {node.value for node in sources if isinstance(node, ast.Constant)} - {None}
    ours = re.compile(
        r"(TRELLIS|LANGGRAPH|LANGSERVE|BG_JOB|REDIS|DATABASE|POSTGRES|LOG|LS)_[A-Z_]+"
    )

    named = {text for text in texts if isinstance(text, str) and ours.fullmatch(text)}

    assert named >= {"TRELLIS_DEV", "REDIS_CLUSTER"}
    assert named <= asked | set(WITHOUT_EFFECT)
    assert not asked & set(WITHOUT_EFFECT)


def test_settings__each_is_used(sources: list[ast.AST]) -> None:
    used = {
        node.attr
        for node in sources
        if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith("settings")
    }

    assert {field.name for field in fields(Settings)} <= used


def test_load():
    settings = load({**NEEDED, "N_JOBS_PER_WORKER": "7", "LOG_JSON": "true"})

    assert (settings.slots, settings.log_json, settings.port) == (7, True, 2024)


def test_load__official_names():
    settings = load({"POSTGRES_URI": "postgresql://a/b", "REDIS_URI": "redis://c"})

    assert (settings.database_url, settings.redis_url) == ("postgresql://a/b", "redis://c")


def test_load__official_names_count_after_ours():
    official = {
        "POSTGRES_URI": "postgresql://a/bundled",
        "POSTGRES_URI_CUSTOM": "postgresql://a/own",
        "REDIS_URI": "redis://bundled",
        "REDIS_URI_CUSTOM": "redis://own",
        "LANGGRAPH_POSTGRES_POOL_MAX_SIZE": "150",
        "BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS": "180",
        "BG_JOB_MAX_RETRIES": "3",
    }
    ours = {
        "TRELLIS_DATABASE_POOL_SIZE": "5",
        "TRELLIS_DRAIN_SECONDS": "20",
        "TRELLIS_MAX_RETRIES": "0",
    }

    theirs, both = load(official), load({**NEEDED, **official, **ours})

    assert (theirs.database_url, theirs.redis_url) == ("postgresql://a/own", "redis://own")
    assert (theirs.database_pool_size, theirs.drain_seconds, theirs.max_retries) == (150, 180, 3)
    assert (both.database_url, both.redis_url) == (NEEDED["DATABASE_URL"], NEEDED["REDIS_URL"])
    assert (both.database_pool_size, both.drain_seconds, both.max_retries) == (5, 20, 0)


def test_load__log_color():
    assert load(NEEDED).log_color is None
    assert load({**NEEDED, "LOG_COLOR": "false"}).log_color is False


def test_load__listens_everywhere_only_where_a_platform_gives_a_port():
    assert load(NEEDED).host == "127.0.0.1"
    assert load({**NEEDED, "PORT": "5000"}).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("N_JOBS_PER_WORKER", "0"),
        ("N_JOBS_PER_WORKER", "many"),
        ("PORT", "70000"),
        ("BG_JOB_MAX_RETRIES", "-1"),
        ("TRELLIS_MAX_RETRIES", "101"),
        ("BG_JOB_TIMEOUT_SECS", "-1"),
        ("BG_JOB_TIMEOUT_SECS", "nan"),
        ("LOG_JSON", "perhaps"),
        ("LOG_COLOR", "blue"),
        ("LANGGRAPH_POSTGRES_POOL_MAX_SIZE", "0"),
        ("BG_JOB_SHUTDOWN_GRACE_PERIOD_SECS", "soon"),
        ("LOG_LEVEL", "LOUD"),
        ("DATABASE_URL", ""),
        ("REDIS_URL", "http://h"),
    ],
)
def test_load__bad_value_is_named(name, value):
    with pytest.raises(ConfigError, match=name):
        load({**NEEDED, name: value})


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_normalize_url(scheme):
    assert normalize_url(f"{scheme}://u:p@h:1/d?sslmode=require") == (
        "postgresql+psycopg2://u:p@h:1/d?sslmode=require"
    )


def test_normalize_url__another_database():
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        normalize_url("mysql://h/d")


def test_redis_url__self_signed_on_heroku_only():
    heroku = "rediss://:p@ec2-1-2-3-4.compute-1.amazonaws.com:6380"

    assert redis_url(heroku).endswith("ssl_cert_reqs=none")
    assert redis_url("rediss://:p@redis.example.com:6380") == "rediss://:p@redis.example.com:6380"
    assert redis_url("valkeys://h") == "rediss://h"


SECRET = "whsec_" + "A" * 32


def test_load__webhook_secrets():
    settings = load({**NEEDED, "TRELLIS_WEBHOOK_SECRET": f"{SECRET} whsec_{'B' * 44}"})

    assert [len(key) for key in settings.webhook_secrets] == [24, 33]
    assert repr(settings.webhook_secrets[0]) not in repr(settings)
    assert load(NEEDED).webhook_secrets == ()


@pytest.mark.parametrize(
    "given", ["A" * 32, "whsec_=", "whsec_AAAA", SECRET[:-1], f"{SECRET}!", "whsec_" + "A" * 100]
)
def test_load__no_webhook_secret(given):
    with pytest.raises(ConfigError, match="TRELLIS_WEBHOOK_SECRET must be") as refused:
        load({**NEEDED, "TRELLIS_WEBHOOK_SECRET": given})

    assert given not in str(refused.value)
