"""
Every published advisory on the software that we are built on or like, tried on this server.

Elsewhere: rows that import or call what they name (CVE-2025-64439, CVE-2026-27794, CVE-2026-28277, CVE-2026-48775) in
`conformance/test_evil_rows.py`; handlers that are asked for other actions than theirs (CVE-2026-104873) in
`unit/auth/test_custom.py`; a namespace that a handler rewrites (CVE-2026-118668) in `access/test_routes.py`, as `test_store__…`;
Flower without a login in `acceptance/test_flower.py`.
"""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from langgraph_sdk import get_sync_client
from packaging.version import Version

from trellis.settings import Settings
from trellis_workers.celery import new_app

CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"

#: The first version of a package with everything fixed that is known of it.
FLOORS = {
    "langgraph-checkpoint": "4.0.0",  # CVE-2025-64439, CVE-2026-27794
    "langgraph": "1.2.14",  # CVE-2026-48776
    "langgraph-sdk": "0.4.6",  # CVE-2026-48776, CVE-2026-118667, CVE-2026-104873
    "langchain-core": "1.3.3",  # CVE-2025-68664, CVE-2026-44843
    "flower": "2.2.0",  # CVE-2022-30034, CVE-2022-51020
    "tornado": "6.5.5",  # CVE-2026-31958, CVE-2026-35536
    "celery": "5.6.0",  # CVE-2021-23727, and passwords of brokers in logs
    "werkzeug": "3.1.4",
    "flask": "3.1.1",
}
#: Packages that other advisories are about. None of them is installed with us.
ABSENT = ("langgraph-checkpoint-sqlite", "langgraph-checkpoint-postgres", "langgraph-api")
RUN = {"assistant_id": "echo", "input": {"value": "x"}}
#: Texts that would end a literal, open an operator, or match anything.
INJECTIONS = (
    "a' OR '1'='1",
    "a') = 'x' OR 1=1 --",
    'a"; DROP TABLE thread; --',
    "a}' || pg_sleep(30) || '",
    "$.a ? (@ == 1)",
    "a{b,c}",
    "%",
    "_",
    "*",
    "a\\",
    ":name",
    "%(name)s",
)


@pytest.mark.parametrize("package", FLOORS)
def test_floor(package: str) -> None:
    pinned = dict(re.findall(r"(?m)^([\w-]+)==(\S+)$", CONSTRAINTS.read_text()))

    for version in (pinned[package], importlib.metadata.version(package)):
        assert Version(version) >= Version(FLOORS[package])


@pytest.mark.parametrize("package", ABSENT)
def test_package_that_is_not_needed(package: str) -> None:
    assert f"{package}==" not in CONSTRAINTS.read_text()


# CVE-2026-71433: a prefix of a namespace crossed segments, and took wildcards


def test_namespace__matches_whole_labels_only(client: FlaskClient) -> None:
    for label in ("12", "1x", "1xx"):
        item = {"namespace": [label, "notes"], "key": "k", "value": {"of": label}}
        assert client.put("/store/items", json=item).status_code == 204

    for prefix in ("1", "1_", "1%", "_", "%", "1\\"):
        found = client.post("/store/items/search", json={"namespace_prefix": [prefix]})
        listed = client.post("/store/namespaces", json={"prefix": [prefix]})

        assert (prefix, found.get_json()) == (prefix, {"items": []})
        assert (prefix, listed.get_json()) == (prefix, {"namespaces": []})


# CVE-2025-67644, CVE-2025-8709, CVE-2025-64104: SQL in the keys and the operators of filters


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/threads/search", "metadata"),
        ("/threads/search", "values"),
        ("/threads/count", "metadata"),
        ("/assistants/search", "metadata"),
        ("/assistants/count", "metadata"),
        ("/runs/crons/search", "metadata"),
        ("/store/items/search", "filter"),
    ],
)
def test_filter__key_and_value_are_data(
    client: FlaskClient, thread_id: str, path: str, field: str
) -> None:
    client.put("/store/items", json={"namespace": ["a"], "key": "k", "value": {"a": 1}})
    client.patch(f"/threads/{thread_id}", json={"metadata": {"a": 1}})

    for text in INJECTIONS:
        for wanted in ({text: 1}, {text: {"$eq": 1}}, {"a": text}):
            found = client.post(path, json={field: wanted})
            assert found.status_code == 200, (wanted, found.text)
            assert found.get_json() in ([], 0, {"items": []}), wanted

    assert client.get(f"/threads/{thread_id}").status_code == 200


def test_filter__operator_is_one_of_a_few(client: FlaskClient) -> None:
    client.put("/store/items", json={"namespace": ["a"], "key": "k", "value": {"a": 1}})

    for text in (*INJECTIONS, "or", "regex", "where"):
        found = client.post("/store/items/search", json={"filter": {"a": {f"${text}": 1}}})
        assert found.status_code in (400, 422), (text, found.text)


@pytest.mark.parametrize("path", ["/threads/search", "/assistants/search", "/runs/crons/search"])
def test_order__is_one_of_a_few(client: FlaskClient, path: str) -> None:
    for text in INJECTIONS:
        for wanted in ({"sort_by": text}, {"sort_order": text}, {"select": [text]}):
            assert client.post(path, json=wanted).status_code == 422, wanted


# CVE-2026-48121: an id that was an object, and became an operator


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads", {"thread_id": "?"}),
        ("/threads/search", {"ids": ["?"]}),
        ("/threads/prune", {"thread_ids": ["?"]}),
        ("/runs/cancel", {"thread_id": "?", "run_ids": ["?"]}),
        ("/runs", {**RUN, "assistant_id": "?"}),
        ("/runs", {**RUN, "config": {"configurable": {"thread_id": "?"}}}),
        ("/runs/crons/search", {"thread_id": "?"}),
        ("/assistants", {"graph_id": "echo", "assistant_id": "?"}),
    ],
    ids=lambda given: given if isinstance(given, str) else "-".join(given),
)
def test_id__is_a_text(client: FlaskClient, path: str, body: dict[str, Any], rows: Any) -> None:
    before = rows()

    for id_ in ({"$ne": None}, {"$gt": ""}, ["a"], 1, True):
        refused = client.post(path, json=_with(body, id_))
        assert refused.status_code == 422, (id_, refused.text)

    assert rows() == before


def _with(given: Any, id_: Any) -> Any:
    """The same with the id in the place of the question marks."""
    if isinstance(given, dict):
        return {key: _with(value, id_) for key, value in given.items()}
    if isinstance(given, list):
        return [_with(value, id_) for value in given]
    return id_ if given == "?" else given


# CVE-2026-48776, CVE-2026-118667: an id that leads to another resource


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
def test_path__id_leads_nowhere_else(client: FlaskClient, thread_id: str, method: str) -> None:
    for up in ("../threads/", "..%2fthreads%2f", "x/../", "%2e%2e/threads/"):
        for path in (f"/threads/{up}{thread_id}", f"/threads/{quote(up, safe='')}{thread_id}"):
            answer = client.open(path, method=method, json={"metadata": {"a": 1}})
            assert answer.status_code in (404, 405, 422), (path, answer.text)

    assert client.get(f"/threads/{thread_id}").get_json()["metadata"] == {}


def test_sdk__quotes_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    with get_sync_client(url="http://127.0.0.1:9") as sdk:
        monkeypatch.setattr(sdk.http, "get", lambda path, **_: asked.append(path))
        sdk.threads.get("../assistants/a?b#c")

    assert asked == ["/threads/..%2Fassistants%2Fa%3Fb%23c"]


# PYSEC-2026-3857: a relative webhook was delivered inside the server, without credentials


@pytest.mark.parametrize("path", ["/runs", "/threads/{}/runs", "/runs/crons"])
def test_webhook__is_no_path(client: FlaskClient, thread_id: str, path: str, rows: Any) -> None:
    before = rows()
    run = {**RUN, "schedule": "0 0 1 1 *"} if path == "/runs/crons" else RUN

    for url in (f"/threads/{thread_id}/runs", f"//threads/{thread_id}", "?a=1", "threads/x", ""):
        refused = client.post(path.format(thread_id), json={**run, "webhook": url})
        assert refused.status_code == 422, (url, refused.text)

    assert rows() == before


# CVE-2025-68664, CVE-2026-44843: an `lc` envelope in an input became an object


def test_input__an_envelope_stays_data(
    client: FlaskClient, thread_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "leaked")
    secret = {"lc": 1, "type": "secret", "id": ["A_SECRET"]}
    made = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain_core", "prompts", "PromptTemplate"],
        "kwargs": {"template": "{{ x }}", "template_format": "jinja2", "key": secret},
    }

    run = client.post(f"/threads/{thread_id}/runs", json={**RUN, "input": {"value": made}})
    client.put("/store/items", json={"namespace": ["a"], "key": "k", "value": made})

    assert run.get_json()["kwargs"]["input"] == {"value": made}
    assert client.get("/store/items?namespace=a&key=k").get_json()["value"] == made
    assert "leaked" not in run.text


# CVE-2021-23727: commands from a result backend; and pickles from the broker


def test_celery__takes_json_and_keeps_no_results(settings: Settings) -> None:
    conf = new_app(settings).conf

    assert conf.result_backend is None
    assert conf.task_ignore_result
    assert list(conf.accept_content) == ["json"]
    assert (conf.task_serializer, conf.event_serializer) == ("json", "json")
