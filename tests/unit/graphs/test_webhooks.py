"""`webhooks` of langgraph.json."""

from __future__ import annotations

from typing import Any

import pytest

from trellis.domain.webhooks import Policy, Webhooks
from trellis.errors import ConfigError
from trellis.graphs import webhooks

ENVIRON = {"LG_WEBHOOK_TOKEN": "secret", "OTHER": "x", "LG_WEBHOOK_EVIL": "a\r\nX: y"}


def parsed(raw: Any) -> Webhooks:
    return webhooks.parse("langgraph.json", raw, environ=ENVIRON)


@pytest.mark.parametrize("raw", [None, {}, {"url": None, "headers": {}}])
def test_parse__nothing_said(raw: Any) -> None:
    assert parsed(raw) == Webhooks()


def test_parse__url() -> None:
    url = {
        "require_https": True,
        "allowed_domains": ["*.example.com"],
        "allowed_ports": [443],
        "max_url_length": 100,
        "disable_loopback": False,
    }

    assert parsed({"url": url}).policy == Policy(
        require_https=True,
        allowed_domains=("*.example.com",),
        allowed_ports=(443,),
        max_url_length=100,
        disable_loopback=False,
    )


def test_parse__headers() -> None:
    raw = {"headers": {"Authorization": "Bearer ${{ env.LG_WEBHOOK_TOKEN }}", "X-A": "b"}}

    assert parsed(raw).headers == {"Authorization": "Bearer secret", "X-A": "b"}


def test_parse__own_prefix() -> None:
    raw = {"env_prefix": "OTH", "headers": {"X-A": "${{env.OTHER}}"}}

    assert parsed(raw).headers == {"X-A": "x"}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ([], '"webhooks" takes an object'),
        ({"urls": {}}, 'unknown key "urls"'),
        ({"env_prefix": ""}, 'webhooks.env_prefix" takes'),
        ({"url": {"disable_lopback": False}}, 'webhooks.url": unknown key "disable_lopback"'),
        ({"url": {"require_https": "yes"}}, 'webhooks.url.require_https" takes true or false'),
        ({"url": {"max_url_length": 0}}, 'webhooks.url.max_url_length" takes'),
        ({"url": {"allowed_domains": "a"}}, 'webhooks.url.allowed_domains" takes'),
        ({"url": {"allowed_ports": [True]}}, 'webhooks.url.allowed_ports" takes'),
        ({"headers": []}, 'webhooks.headers" takes an object'),
        ({"headers": {"X-A": 1}}, 'webhooks.headers.X-A" takes a text'),
        ({"headers": {"Webhook-Signature": "x"}}, "is no name for a header"),
        ({"fields": []}, 'webhooks.fields" takes a list of at least one of: run_id'),
        ({"fields": ["run_id", "runid"]}, 'webhooks.fields" takes a list of at least one of'),
        ({"headers": {"Bad Name": "x"}}, "is no name for a header"),
        ({"headers": {"Webhook-Id": "x"}}, "is no name for a header"),
        ({"headers": {"X-A": "a\nb"}}, "printable ASCII on one line"),
        ({"headers": {"X-A": "${{ env.LG_WEBHOOK_EVIL }}"}}, "printable ASCII on one line"),
        ({"headers": {"X-A": "${{ env.OTHER }}"}}, "begin with LG_WEBHOOK_"),
        ({"headers": {"X-A": "${{ env.LG_WEBHOOK_NONE }}"}}, "LG_WEBHOOK_NONE, which is not set"),
    ],
)
def test_parse__refused(raw: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        parsed(raw)


def test_parse__fields() -> None:
    assert parsed({"fields": ["status", "run_id"]}).fields == ("status", "run_id")


@pytest.mark.parametrize(
    ("http", "disabled"),
    [
        (None, False),
        ({}, False),
        ({"disable_webhooks": True}, True),
        ({"disable_webhooks": None}, False),
    ],
)
def test_parse__switched_off(http: Any, disabled: bool) -> None:
    assert webhooks.parse("f", None, http=http, environ={}).disabled is disabled


def test_parse__a_switch_that_is_neither() -> None:
    with pytest.raises(ConfigError, match=r'"http.disable_webhooks" takes true or false'):
        webhooks.parse("f", None, http={"disable_webhooks": "yes"}, environ={})
