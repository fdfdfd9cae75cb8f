"""Routes of crons; nothing fires here."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from trellis.domain.http import Headers, HttpConfig
from trellis.domain.ids import default_assistant_id, new_id
from trellis.runtime import Runtime

FIELDS = [
    "cron_id",
    "assistant_id",
    "thread_id",
    "user_id",
    "end_time",
    "schedule",
    "timezone",
    "payload",
    "next_run_date",
    "metadata",
    "on_run_completed",
    "enabled",
    "created_at",
    "updated_at",
]
ECHO = {"assistant_id": "echo", "schedule": "*/5 * * * *", "input": {"value": "a"}}


def make(client: FlaskClient, path: str = "/runs/crons", **fields: Any) -> dict[str, Any]:
    response = client.post(path, json={**ECHO, **fields})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.get_json()
    return found


def test_create(client: FlaskClient) -> None:
    cron = make(client, metadata={"cm": 1}, timezone="America/New_York")

    assert list(cron) == FIELDS
    assert cron["payload"] == {
        **ECHO,
        "assistant_id": default_assistant_id("echo"),
        "metadata": {"cm": 1},
        "timezone": "America/New_York",
        "config": {"configurable": {"cron_id": cron["cron_id"]}},
    }
    assert cron["created_at"] == cron["updated_at"] < cron["next_run_date"]
    assert cron["next_run_date"][14:16] in {f"{n:02}" for n in range(0, 60, 5)}
    assert {key: cron[key] for key in FIELDS[1:7] + FIELDS[9:12]} == {
        "assistant_id": default_assistant_id("echo"),
        "thread_id": None,
        "user_id": "",
        "end_time": None,
        "schedule": "*/5 * * * *",
        "timezone": "America/New_York",
        "metadata": {"cm": 1},
        "on_run_completed": "delete",
        "enabled": True,
    }
    assert client.get(f"/runs/crons/{cron['cron_id']}").get_json() == cron


def test_create__on_a_thread(client: FlaskClient, thread_id: str) -> None:
    end = "2030-01-01T00:00:00Z"
    cron = make(client, f"/threads/{thread_id}/runs/crons", end_time=end, enabled=False)

    assert (cron["thread_id"], cron["on_run_completed"]) == (thread_id, None)
    assert (cron["end_time"], cron["payload"]["end_time"], cron["enabled"]) == (end, end, False)


def test_create__on_a_thread_refuses_on_run_completed(client: FlaskClient, thread_id: str) -> None:
    path = f"/threads/{thread_id}/runs/crons"

    refused = client.post(path, json={**ECHO, "on_run_completed": "delete"})

    assert refused.status_code == 422
    assert "has no on_run_completed" in refused.get_json()["detail"]
    assert client.post("/runs/crons/count", json={"thread_id": thread_id}).get_json() == 0
    assert client.post(path, json={**ECHO, "on_run_completed": None}).status_code == 200


def test_create__by_assistant_id_and_past_its_end(client: FlaskClient) -> None:
    assistant_id = default_assistant_id("hitl")
    cron = make(client, assistant_id=assistant_id, end_time="2020-01-01T00:00:00Z")

    assert cron["assistant_id"] == assistant_id
    assert cron["next_run_date"] > cron["created_at"]


@pytest.mark.parametrize(
    ("fields", "status", "says"),
    [
        (
            {"schedule": "bad"},
            422,
            "Invalid cron schedule: 'bad'. Reason: Exactly 5, 6 or 7 columns",
        ),
        ({"schedule": "0 0 30 2 *"}, 422, "There is no such date"),
        ({"schedule": 5}, 422, "Expected `str`, got `int` - at `$.schedule`"),
        ({"schedule": None}, 422, "$.schedule"),
        (
            {"timezone": "Mars/X"},
            422,
            "Invalid timezone: 'Mars/X'. Use IANA timezone format (e.g. 'America/New_York').",
        ),
        ({"assistant_id": "nope"}, 404, "Assistant 'nope' not found"),
        (
            {"assistant_id": "00000000-0000-4000-8000-000000000000"},
            404,
            "Assistant '00000000-0000-4000-8000-000000000000' not found",
        ),
        ({"end_time": "soon"}, 422, "$.end_time"),
        ({"end_time": "9999-12-31T23:59:59-10:00"}, 422, "out of range"),
        ({"end_time": "0001-01-01T00:00:00+10:00"}, 422, "out of range"),
        ({"on_run_completed": "burn"}, 422, "delete, keep"),
        ({"stream_mode": "bogus"}, 422, "stream_mode 'bogus' is not one of"),
        ({"webhook": "ftp://example.com/"}, 422, "scheme 'ftp' not allowed"),
        ({"context": {"a": 1}, "config": {"configurable": {"b": 1}}}, 400, "Cannot specify both"),
        ({"metadata": {"m": "x" * 70_000}}, 422, "metadata is larger"),
        ({"enabled": "yes"}, 422, "$.enabled"),
        ({"multitask_strategy": "hope"}, 422, "enqueue, interrupt, reject, rollback"),
        ({"timezone": "a\0b"}, 422, "U+0000"),
    ],
)
def test_create__refused(
    client: FlaskClient, sql: Any, fields: dict[str, Any], status: int, says: str
) -> None:
    refused = client.post("/runs/crons", json={**ECHO, **fields})

    assert refused.status_code == status, refused.text
    assert says in refused.get_json()["detail"]
    assert sql("SELECT count(*) FROM cron") == 0


@pytest.mark.parametrize("missing", ["assistant_id", "schedule"])
def test_create__without(client: FlaskClient, missing: str) -> None:
    body = {key: value for key, value in ECHO.items() if key != missing}
    refused = client.post("/runs/crons", json=body)

    assert refused.status_code == 422
    assert refused.get_json()["detail"] == f'"{missing}" is a required property'


def test_create__no_such_thread(client: FlaskClient) -> None:
    thread_id = new_id()
    refused = client.post(f"/threads/{thread_id}/runs/crons", json=ECHO)

    assert refused.status_code == 404
    assert refused.get_json()["detail"] == (
        f"Thread with ID '{thread_id}' not found. Please verify the ID is correct and the thread "
        "hasn't been deleted or expired."
    )


@pytest.mark.parametrize("on_thread", [False, True])
def test_create__again(client: FlaskClient, sql: Any, thread_id: str, on_thread: bool) -> None:
    path = f"/threads/{thread_id}/runs/crons" if on_thread else "/runs/crons"
    headers = {"Idempotency-Key": f"cron-{on_thread}"}
    first = client.post(path, json=ECHO, headers=headers)
    again = client.post(path, json=ECHO, headers=headers)
    other = client.post(path, json={**ECHO, "schedule": "@daily"}, headers=headers)

    assert first.status_code == 200
    assert first.data == again.data
    assert again.headers["Idempotency-Replayed"] == "true"
    assert other.status_code == 409
    assert sql("SELECT count(*) FROM cron") == 1
    sql("TRUNCATE idempotency")


def test_patch(client: FlaskClient) -> None:
    before = make(client, metadata={"cm": 1}, timezone="America/New_York")
    path = f"/runs/crons/{before['cron_id']}"

    cron = client.patch(
        path, json={"schedule": "0 0 * * *", "enabled": False, "metadata": {"x": 2}}
    ).get_json()

    assert cron["metadata"] == {"cm": 1, "x": 2}
    assert (cron["schedule"], cron["enabled"]) == ("0 0 * * *", False)
    assert cron["next_run_date"][11:] in ("05:00:00+00:00", "04:00:00+00:00")
    assert cron["payload"] == {
        **before["payload"],
        "schedule": "0 0 * * *",
        "enabled": False,
        "metadata": {"x": 2},
    }
    assert cron["updated_at"] > cron["created_at"] == before["created_at"]
    assert client.get(path).get_json() == cron


def test_patch__many_at_once(app: Flask, client: FlaskClient) -> None:
    """Each begins with what the one before it has left."""
    path = f"/runs/crons/{make(client)['cron_id']}"

    def send(n: int) -> int:
        return app.test_client().patch(path, json={"metadata": {str(n): n}}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(send, range(40))) == {200}

    assert client.get(path).get_json()["metadata"] == {str(n): n for n in range(40)}


def test_patch__end_time(client: FlaskClient) -> None:
    path = f"/runs/crons/{make(client)['cron_id']}"

    ending = client.patch(path, json={"end_time": "2031-01-01T00:00:00Z"}).get_json()
    cleared = client.patch(path, json={"end_time": None, "input": {"value": "b"}}).get_json()

    assert ending["end_time"] == "2031-01-01T00:00:00Z"
    assert (cleared["end_time"], cleared["payload"]["end_time"]) == (None, None)
    assert cleared["payload"]["input"] == {"value": "b"}


def test_patch__config_keeps_the_cron_id(client: FlaskClient) -> None:
    cron_id = make(client, config={"tags": ["a"]})["cron_id"]

    cron = client.patch(
        f"/runs/crons/{cron_id}", json={"config": {"configurable": {"k": 1}}}
    ).get_json()
    context = client.patch(
        f"/runs/crons/{cron_id}", json={"config": None, "context": {"c": 1}}
    ).get_json()

    assert cron["payload"]["config"] == {"configurable": {"k": 1, "cron_id": cron_id}}
    assert context["payload"]["config"] == {"configurable": {"cron_id": cron_id}}
    assert context["payload"]["context"] == {"c": 1}


def test_patch__keeps_the_headers_of_its_maker(client: FlaskClient, rt: Runtime) -> None:
    meant = HttpConfig(configurable_headers=Headers(includes=("x-team",)))
    rt.manifest = replace(rt.manifest, http=meant)
    made = client.post("/runs/crons", json=ECHO, headers={"X-Team": "blue"}).get_json()
    path = f"/runs/crons/{made['cron_id']}"

    client.patch(path, json={"schedule": "0 0 * * *"}, headers={"X-Team": "red"})

    run = client.post(f"{path}/run").get_json()
    assert run["kwargs"]["config"]["configurable"]["x-team"] == "blue"


@pytest.mark.parametrize(
    ("changes", "status", "says"),
    [
        ({}, 400, "Request body cannot be empty"),
        ({"bogus": 1}, 400, "Request body cannot be empty"),
        ({"schedule": "bad"}, 422, "Invalid cron schedule: 'bad'"),
        ({"schedule": None}, 422, "$.schedule"),
        ({"timezone": "Mars/X"}, 422, "Invalid timezone: 'Mars/X'"),
        ({"assistant_id": "hitl"}, 422, "assistant_id of a cron cannot be changed"),
        ({"webhook": "/hook"}, 422, "Invalid webhook hostname ''"),
        ({"metadata": {"m": "x" * 70_000}}, 422, "metadata is larger"),
        ([], 422, "Expected `object`, got `array`"),
    ],
)
def test_patch__refused(client: FlaskClient, changes: Any, status: int, says: str) -> None:
    cron = make(client)
    path = f"/runs/crons/{cron['cron_id']}"

    refused = client.patch(path, json=changes)

    assert refused.status_code == status, refused.text
    assert says in refused.get_json()["detail"]
    assert client.get(path).get_json() == cron


def test_patch__of_a_thread_refuses_on_run_completed(client: FlaskClient, thread_id: str) -> None:
    cron = make(client, f"/threads/{thread_id}/runs/crons")
    path = f"/runs/crons/{cron['cron_id']}"

    refused = client.patch(path, json={"on_run_completed": "delete", "enabled": False})

    assert refused.status_code == 422
    assert "has no on_run_completed" in refused.get_json()["detail"]
    assert client.get(path).get_json() == cron
    assert client.patch(path, json={"on_run_completed": None}).status_code == 200


def test_unknown(client: FlaskClient) -> None:
    cron_id = new_id()
    path = f"/runs/crons/{cron_id}"
    answers = [
        client.get(path),
        client.delete(path),
        client.patch(path, json={"enabled": True}),
        client.post(f"{path}/run"),
        client.get("/runs/crons/xx"),
    ]

    assert [(answer.status_code, answer.get_json()["detail"]) for answer in answers] == [
        (404, "Not Found"),
        (404, "Not Found"),
        (404, f"Cron '{cron_id}' not found"),
        (404, "Not Found"),
        (422, "Invalid cron ID: must be a UUID"),
    ]


def test_delete(client: FlaskClient) -> None:
    path = f"/runs/crons/{make(client)['cron_id']}"

    assert client.delete(path).status_code == 204
    assert client.delete(path).status_code == 404


def test_delete__with_its_thread(client: FlaskClient, thread_id: str) -> None:
    cron_id = make(client, f"/threads/{thread_id}/runs/crons")["cron_id"]

    client.delete(f"/threads/{thread_id}")

    assert client.get(f"/runs/crons/{cron_id}").status_code == 404


@pytest.fixture
def three(client: FlaskClient, thread_id: str) -> list[str]:
    """Ids: every five minutes; hourly on a thread and off; daily, of another graph, with an end."""
    return [
        make(client, metadata={"n": 1, "a": {"b": 1}})["cron_id"],
        make(
            client,
            f"/threads/{thread_id}/runs/crons",
            schedule="0 * * * *",
            enabled=False,
            metadata={"n": 2},
        )["cron_id"],
        make(client, schedule="0 0 1 1 *", assistant_id="hitl", end_time="2090-01-01T00:00:00Z")[
            "cron_id"
        ],
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [2, 1, 0]),
        ({"sort_order": "asc"}, [0, 1, 2]),
        ({"sort_by": "next_run_date", "sort_order": "desc", "enabled": True}, [2, 0]),
        ({"sort_by": "end_time"}, [2, 1, 0]),
        ({"sort_by": "thread_id", "sort_order": "asc"}, [1, 0, 2]),
        ({"enabled": False}, [1]),
        ({"metadata": {"n": 1}}, [0]),
        ({"metadata": {"a": {"b": 2}}}, []),
        ({"assistant_id": default_assistant_id("echo")}, [1, 0]),
        ({"assistant_id": "00000000-0000-4000-8000-000000000000"}, []),
    ],
)
def test_search(client: FlaskClient, three: list[str], query: Any, expected: list[int]) -> None:
    found = client.post("/runs/crons/search", json=query)

    assert [each["cron_id"] for each in found.get_json()] == [three[n] for n in expected]
    assert found.headers["X-Pagination-Total"] == str(len(expected))


def test_search__of_a_thread(client: FlaskClient, three: list[str], thread_id: str) -> None:
    body = {"thread_id": thread_id, "select": ["cron_id", "thread_id"]}
    found = client.post("/runs/crons/search", json=body).get_json()

    assert found == [{"cron_id": three[1], "thread_id": thread_id}]
    assert client.post("/runs/crons/count", json={"thread_id": thread_id}).get_json() == 1


def test_search__pages(client: FlaskClient, three: list[str]) -> None:
    first = client.post("/runs/crons/search", json={"limit": 2})
    last = client.post("/runs/crons/search", json={"limit": 2, "offset": 2})

    assert [each["cron_id"] for each in first.get_json() + last.get_json()] == three[::-1]
    assert first.headers["X-Pagination-Next"] == "2"
    assert "X-Pagination-Next" not in last.headers


def test_search__shows_what_get_shows(client: FlaskClient, three: list[str]) -> None:
    found = client.post("/runs/crons/search", json={}).get_json()

    assert found == [client.get(f"/runs/crons/{cron_id}").get_json() for cron_id in three[::-1]]


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ({"assistant_id": "echo"}, "Invalid assistant ID: must be a UUID"),
        ({"thread_id": "x"}, "Invalid thread ID: must be a UUID"),
        ({"limit": 0}, "$.limit"),
        ({"limit": 1001}, "$.limit"),
        ({"offset": 2**70}, "$.offset"),
        ({"select": ["run"]}, "Invalid enum value 'run'"),
        ({"sort_by": "payload"}, "Invalid enum value 'payload'"),
    ],
)
def test_search__refused(client: FlaskClient, query: Any, says: str) -> None:
    refused = client.post("/runs/crons/search", json=query)

    assert refused.status_code == 422
    assert says in refused.get_json()["detail"]


def test_count(client: FlaskClient, three: list[str]) -> None:
    counts = [
        client.post("/runs/crons/count", json=query).get_json()
        for query in ({}, {"metadata": {"n": 2}}, {"enabled": True})
    ]

    assert counts == [3, 1, 2]


@pytest.fixture
def another_tenants(sql: Any, three: list[str]) -> str:
    sql("UPDATE cron SET tenant_id = 'other' WHERE cron_id = CAST(:c AS uuid)", c=three[0])
    return three[0]


def test_another_tenants_cron_is_not_there(client: FlaskClient, another_tenants: str) -> None:
    path = f"/runs/crons/{another_tenants}"
    answers = [
        client.get(path),
        client.patch(path, json={"enabled": False}),
        client.post(f"{path}/run"),
        client.delete(path),
    ]

    assert [answer.status_code for answer in answers] == [404] * 4
    assert client.post("/runs/crons/count", json={}).get_json() == 2
    assert len(client.post("/runs/crons/search", json={}).get_json()) == 2


def test_run(client: FlaskClient, sql: Any) -> None:
    cron = make(client, metadata={"m": 1}, enabled=False, on_run_completed="keep")

    response = client.post(f"/runs/crons/{cron['cron_id']}/run")

    run = response.get_json()
    assert response.status_code == 200
    assert (
        response.headers["Content-Location"] == f"/threads/{run['thread_id']}/runs/{run['run_id']}"
    )
    assert run["status"] == "pending"
    assert run["kwargs"]["input"] == {"value": "a"}
    assert run["kwargs"]["config"]["configurable"]["cron_id"] == cron["cron_id"]
    assert run["metadata"]["m"] == 1
    assert client.get(f"/runs/crons/{cron['cron_id']}").get_json() == cron
    assert sql("SELECT cron_id::text FROM run WHERE cron_tick IS NULL") == cron["cron_id"]


def test_run__again(client: FlaskClient, sql: Any) -> None:
    path = f"/runs/crons/{make(client)['cron_id']}/run"
    headers = {"Idempotency-Key": "run-1"}
    first = client.post(path, headers=headers)
    again = client.post(path, headers=headers)
    client.post(path)

    assert first.data == again.data
    assert again.headers["Idempotency-Replayed"] == "true"
    assert sql("SELECT count(*) FROM run") == 2
    sql("TRUNCATE idempotency")


def test_run__busy_thread(client: FlaskClient, thread_id: str) -> None:
    client.post(f"/threads/{thread_id}/runs", json={"assistant_id": "echo"})
    cron = make(client, f"/threads/{thread_id}/runs/crons", multitask_strategy="reject")

    refused = client.post(f"/runs/crons/{cron['cron_id']}/run")

    assert refused.status_code == 409
    assert "already running a task" in refused.get_json()["detail"]


def test_run__bad_body(client: FlaskClient) -> None:
    path = f"/runs/crons/{make(client)['cron_id']}/run"

    for headers in ({}, {"Idempotency-Key": "bad"}):
        assert client.post(path, data=b"{", headers=headers).status_code == 422


def test_info(client: FlaskClient) -> None:
    assert client.get("/info").get_json()["flags"]["crons"] is True
