"""Every route, asked by nobody and by somebody else: the table of routes is the application's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
from flask import Flask

from integration.api.access.callers import (
    AUTH_PROJECT,
    CRON,
    RUN,
    Callers,
    only_owners,
    only_tenants,
)
from trellis.api import access
from trellis.api.app import create_app
from trellis.runtime import Runtime, build
from trellis.settings import Settings

#: What each route needs to be sent so that only its ids can be wrong with it.
BODIES: Mapping[str, Any] = {
    "runs.create": RUN,
    "runs.create_and_stream": RUN,
    "runs.create_and_wait": RUN,
    "commands.handle": {"id": 1, "method": "state.get"},
    "threads.patch": {"metadata": {"a": 1}},
    "state.find": {"checkpoint": {"checkpoint_ns": ""}},
    "state.search_history": {},
    "assistants.patch": {"name": "his"},
    "assistants.set_latest": {"version": 1},
    "assistants.versions": {},
    "crons.create_on_thread": CRON,
    "crons.patch": {"schedule": "1 1 1 1 *"},
    "state.patch": {"metadata": {"a": 1}},
    "state.update": {"values": {"value": "y"}},
    "state.update_many": {"supersteps": [{"updates": [{"values": {}, "as_node": "shout"}]}]},
}
#: How an answer says in its body that a thing is not there.
TOLD = re.compile(rb"404: (Run|Thread|Thread with ID [-0-9a-f]+) not found")
#: Routes that answer for what is not there yet, for ever: `test_protocol_stream.py` has who hears what.
ENDLESS = ("feeds.events",)
#: Routes that say of a thing that is not there that it is in the way.
CONFLICTS = {"threads.copy": 409}
#: Routes that answer for nothing that is there already, so there is nothing of somebody else's to ask for.
NEW = frozenset(
    {
        "runs.create_batch",
        "runs.create_stateless",
        "runs.create_stateless_and_stream",
        "runs.create_stateless_and_wait",
        "threads.create",
        "assistants.create",
        "crons.create",
        # What a namespace is, the handlers alone decide.
        "store.put",
        "store.get",
        "store.delete",
        "store.search",
        "store.namespaces",
    }
)
#: Routes that answer for many things.
MANY: Mapping[str, Any] = {
    "assistants.count": {},
    "assistants.search": {},
    "runs.cancel_many": {"status": "all"},
    "threads.count": {},
    "threads.search": {},
    "crons.count": {},
    "crons.search": {},
}
#: Routes that name what they are about in their bodies.
NAMING = frozenset({"threads.prune"})


def routes() -> list[tuple[str, str, str]]:
    """(endpoint, method, rule) of every route, in a fixed order, from an application that connects to nothing."""
    nowhere = Settings(
        database_url="postgresql://nowhere/none",
        redis_url="redis://nowhere",
        config_path=AUTH_PROJECT.with_name("langgraph.json"),
    )
    rt = build(nowhere)
    found = [
        (rule.endpoint, method, rule.rule)
        for rule in create_app(rt).url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]
    rt.close()
    return sorted(found)


ROUTES = routes()
CLOSED = [route for route in ROUTES if route[2] not in access.OPEN]
WITH_IDS = [route for route in CLOSED if "<" in route[2] and route[0] not in ENDLESS]


def path_of(rule: str, ids: Mapping[str, str]) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda match: ids[match[1]], rule)


@pytest.mark.parametrize(("endpoint", "method", "rule"), CLOSED)
def test_route__without_credentials(
    endpoint: str, method: str, rule: str, app: Flask, ids: Mapping[str, str]
) -> None:
    path = path_of(rule, ids)

    response = app.test_client().open(path, method=method, json=BODIES.get(endpoint, {}))

    assert response.status_code == 401, response.data
    assert "detail" in response.get_json()


@pytest.mark.parametrize(("endpoint", "method", "rule"), WITH_IDS)
def test_route__with_somebody_elses_ids(
    endpoint: str, method: str, rule: str, people: Callers, ids: Mapping[str, str]
) -> None:
    path = path_of(rule, ids)
    before = people["alice"]("GET", f"/threads/{ids['thread_id']}").data

    response = people["bob"](method, path, BODIES.get(endpoint))

    # Who waits for a run, follows it or its thread, or sends a command is told in the body: so it is for what is not there.
    status = CONFLICTS.get(endpoint, 404)
    assert response.status_code == status or TOLD.search(response.data), response.data
    assert people["alice"]("GET", f"/threads/{ids['thread_id']}").data == before


@pytest.mark.parametrize(("endpoint", "method", "rule"), WITH_IDS)
def test_route__is_the_same_for_what_is_not_there(
    endpoint: str, method: str, rule: str, people: Callers, ids: Mapping[str, str]
) -> None:
    """No answer tells that somebody else has a thing with this id."""
    missing = {name: _flipped(id_) for name, id_ in ids.items()}

    theirs = people["bob"](method, path_of(rule, ids), BODIES.get(endpoint))
    nobodys = people["bob"](method, path_of(rule, missing), BODIES.get(endpoint))

    assert theirs.status_code == nobodys.status_code
    named = nobodys.data
    for name, id_ in missing.items():
        if len(id_) == 36:
            named = named.replace(id_.encode(), ids[name].encode())
    assert theirs.data == named


@pytest.mark.parametrize("spelling", ["urn:uuid:0{}", "{{0{}}}", "+{}"])
def test_route__with_ids_in_another_spelling(
    spelling: str, people: Callers, ids: Mapping[str, str]
) -> None:
    """Python reads ids that Postgres does not."""
    digits = {name: id_.replace("-", "")[1:] for name, id_ in ids.items() if len(id_) == 36}
    spelled = {name: spelling.format(each) for name, each in digits.items()}

    for endpoint, method, rule in WITH_IDS:
        path = path_of(rule, {**ids, **spelled})
        response = people["bob"](method, path, BODIES.get(endpoint))
        assert response.status_code < 500, (endpoint, response.data)


def _flipped(id_: str) -> str:
    return id_[:-4] + "0000" if len(id_) == 36 else id_


@pytest.mark.parametrize("endpoint", sorted(MANY))
def test_route__shows_only_ones_own(endpoint: str, people: Callers, ids: Mapping[str, str]) -> None:
    path = next(rule for name, _, rule in ROUTES if name == endpoint)
    before = people["alice"]("GET", f"/threads/{ids['thread_id']}").data

    response = people["bob"]("POST", path, MANY[endpoint])

    assert not any(id_.encode() in response.data for name, id_ in ids.items() if len(id_) == 36)
    if endpoint.endswith("count"):
        shown = len(people["bob"].post(path.replace("count", "search"), {"limit": 1000}))
        assert response.get_json() == shown
    assert people["alice"]("GET", f"/threads/{ids['thread_id']}").data == before


def test_rules__every_route_is_in_one_of_the_tables(app: Flask) -> None:
    endpoints = {endpoint for endpoint, _, _ in CLOSED}

    assert set(access.RULES) == endpoints
    assert {endpoint for endpoint, _, _ in CLOSED if endpoint not in dict.fromkeys(NEW)} == (
        {endpoint for endpoint, _, _ in WITH_IDS} | set(MANY) | NAMING | {*ENDLESS}
    )


@pytest.mark.parametrize("path", sorted(access.OPEN))
def test_open_route(path: str, people: Callers, app: Flask) -> None:
    assert app.test_client().get(path).status_code == 200


def test_unknown_route__without_credentials(app: Flask, people: Callers) -> None:
    assert app.test_client().get("/nothing/here").status_code == 401
    assert people["bob"]("GET", "/nothing/here").status_code == 404


def test_preflight__needs_no_credentials(app: Flask, people: Callers) -> None:
    headers = {"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}

    assert app.test_client().options("/threads", headers=headers).status_code == 200


def test_batch_and_bulk__by_ids_in_the_body(people: Callers, ids: Mapping[str, str]) -> None:
    cancel = {"thread_id": ids["thread_id"], "run_ids": [ids["run_id"]]}

    assert people["bob"]("POST", "/runs/cancel", cancel).status_code == 404
    own = {"thread_id": ids["thread_id"], "if_exists": "do_nothing"}
    assert people["bob"]("POST", "/threads", own).status_code == 409
    for run in ({**RUN, "assistant_id": ids["assistant_id"]},):
        assert people["bob"]("POST", "/runs", run).status_code == 404
        assert people["bob"]("POST", "/runs/batch", [run]).status_code == 404
        assert people["alice"]("POST", "/runs", run).status_code == 200


@only_owners
@pytest.mark.parametrize(
    "body",
    [
        {"assistant_id": ["echo"]},
        {"assistant_id": {"a": 1}},
        {"assistant_id": "echo", "metadata": [1]},
        {"assistant_id": "echo", "metadata": "x"},
        [RUN],
        7,
    ],
    ids=str,
)
def test_bad_body__is_refused_as_without_handlers(people: Callers, body: Any) -> None:
    assert people["alice"]("POST", "/runs", body).status_code == 422


@only_tenants
def test_api_key__beside_another_credential(app: Flask, people: Callers) -> None:
    """The SDKs send whatever key the environment has."""
    headers = {"X-Api-Key": "lsv2_of_langsmith", "Authorization": "Bearer key-of-alice"}

    assert app.test_client().post("/threads", json={}, headers=headers).status_code == 200


def test_prune__leaves_what_is_somebody_elses(people: Callers, ids: Mapping[str, str]) -> None:
    pruned = people["bob"].post("/threads/prune", {"thread_ids": [ids["thread_id"]]})

    assert pruned == {"pruned_count": 0}
    assert people["alice"]("GET", f"/threads/{ids['thread_id']}").status_code == 200


def test_cron__with_what_is_somebody_elses(people: Callers, ids: Mapping[str, str]) -> None:
    wanted = {**CRON, "assistant_id": ids["assistant_id"]}

    assert people["bob"]("POST", "/runs/crons", wanted).status_code == 404
    assert people["bob"].post("/runs/crons", CRON)["cron_id"]


def test_store__is_not_shared(people: Callers) -> None:
    for name in ("alice", "bob"):
        put = {"namespace": ["m"], "key": "k", "value": {"of": name}}
        assert people[name]("PUT", "/store/items", put).status_code == 204

    for name in ("alice", "bob"):
        item = people[name]("GET", "/store/items?namespace=m&key=k").get_json()
        assert item["value"] == {"of": name}
        [found] = people[name].post("/store/items/search", {"namespace_prefix": []})["items"]
        assert found["value"] == {"of": name}
        assert len(people[name].post("/store/namespaces", {})["namespaces"]) == 1
    gone = people["alice"]("DELETE", "/store/items", {"namespace": ["m"], "key": "k"})
    assert gone.status_code == 204
    assert people["alice"]("GET", "/store/items?namespace=m&key=k").get_json() is None
    assert people["bob"]("GET", "/store/items?namespace=m&key=k").get_json() is not None


@only_owners
@pytest.mark.parametrize("elsewhere", [["x"], [5], [{"a": 1}]], ids=["text", "number", "object"])
def test_store__the_namespace_is_the_one_of_the_route(people: Callers, elsewhere: Any) -> None:
    """A handler is told what the view will take, and no field of another route."""
    put = {"namespace": ["here"], "key": "k", "value": {"a": 1}}
    bob = people["bob"]
    assert bob("PUT", "/store/items", {**put, "prefix": elsewhere}).status_code == 204

    found = bob.post("/store/items/search", {"namespace": elsewhere, "namespace_prefix": ["here"]})
    listed = bob.post("/store/namespaces", {"namespace": elsewhere, "prefix": ["here"]})
    deleted = bob("DELETE", "/store/items", {"namespace_prefix": elsewhere, "key": "k"})

    assert [item["namespace"] for item in found["items"]] == [["bob", "here"]]
    assert listed["namespaces"] == [["bob", "here"]]
    assert deleted.status_code == 204
    assert bob("GET", "/store/items?namespace=here&key=k").get_json()["value"] == {"a": 1}


@only_owners
def test_store__shows_the_namespace_that_the_handler_made(people: Callers) -> None:
    """An identity with periods is one label, though a path of labels is written with periods."""
    name = "plain"
    people[name]("PUT", "/store/items", {"namespace": ["n"], "key": "k", "value": {"a": 1}})

    item = people[name]("GET", "/store/items?namespace=n&key=k").get_json()

    assert item["namespace"] == ["justastring", "n"]


@only_owners
def test_cron__is_of_who_made_it(people: Callers, rt: Runtime) -> None:
    cron = people["alice"].post("/runs/crons", CRON)
    assert (cron["user_id"], cron["metadata"]) == ("alice", {"owner": "alice"})
    people["alice"]("PATCH", f"/runs/crons/{cron['cron_id']}", {"schedule": "1 0 1 1 *"})

    run = people["alice"].post(f"/runs/crons/{cron['cron_id']}/run", {})

    assert run["kwargs"]["config"]["configurable"]["langgraph_auth_user_id"] == "alice"
    assert people["alice"]("GET", f"/threads/{run['thread_id']}").status_code in (200, 404)
    assert people["bob"]("GET", f"/runs/{run['run_id']}").status_code == 404
    assert people["alice"]("GET", f"/runs/{run['run_id']}").status_code == 200


@only_owners
def test_copy__is_of_who_makes_it(people: Callers) -> None:
    thread_id = people["alice"].post("/threads", {"metadata": {"a": 1}})["thread_id"]

    copied = people["alice"]("POST", f"/threads/{thread_id}/copy").get_json()

    assert copied["metadata"] == {"a": 1, "owner": "alice"}


@only_owners
def test_assistant__of_ones_own(people: Callers) -> None:
    made = people["alice"].post("/assistants", {"graph_id": "echo", "metadata": {"a": 1}})
    path = f"/assistants/{made['assistant_id']}"

    assert made["metadata"] == {"a": 1, "owner": "alice"}
    assert people["alice"]("PATCH", path, {"name": "n"}).get_json()["version"] == 2
    again = {"assistant_id": made["assistant_id"], "graph_id": "echo", "if_exists": "do_nothing"}
    assert people["alice"]("POST", "/assistants", again).status_code == 200
    assert people["bob"]("POST", "/assistants", again).status_code == 409
    assert people["bob"]("DELETE", f"{path}?delete_threads=true").status_code == 404
    assert people["alice"]("DELETE", f"{path}?delete_threads=true").status_code == 204


def test_if_not_exists__does_not_take_a_thread_over(
    people: Callers, ids: Mapping[str, str]
) -> None:
    run = {**RUN, "if_not_exists": "create"}

    response = people["bob"]("POST", f"/threads/{ids['thread_id']}/runs", run)

    assert response.status_code == 404
    assert response.get_json() == {"detail": "Thread or assistant not found."}


def test_idempotency_key__of_somebody_else(people: Callers) -> None:
    def create(name: str) -> Any:
        caller = people[name]
        headers = {**caller.headers, "Idempotency-Key": "the-same"}
        return caller.client.post("/threads", json={}, headers=headers).get_json()["thread_id"]

    assert create("alice") == create("alice")
    assert create("alice") != create("bob")


def test_runs__everybody_can_run_the_default_assistant(people: Callers) -> None:
    for name in ("alice", "bob"):
        assert people[name].post("/runs", RUN)["assistant_id"]


def test_stateless_run__is_its_creators(people: Callers) -> None:
    run = people["alice"].post("/runs", RUN)

    assert people["alice"]("GET", f"/runs/{run['run_id']}").status_code == 200
    assert people["bob"]("GET", f"/runs/{run['run_id']}").status_code == 404


@only_tenants
def test_tenants__have_default_assistants_of_their_own(people: Callers) -> None:
    found = [people[name].post("/assistants/search", {}) for name in ("alice", "bob")]
    graphs = [{each["graph_id"] for each in rows if each["name"] != "hers"} for rows in found]
    ids = [{each["assistant_id"] for each in rows} for rows in found]

    assert graphs[0] == graphs[1] == {"echo", "hitl", "nested", "broken"}
    assert not ids[0] & ids[1]
    by_name = people["bob"].post("/runs", RUN)["assistant_id"]
    assert by_name in ids[1]


@only_tenants
def test_api_key__as_bearer(app: Flask) -> None:
    def ask(header: str) -> int:
        headers = {"Authorization": header}
        return app.test_client().post("/threads", json={}, headers=headers).status_code

    assert ask("Bearer key-of-alice") == 200
    assert ask("bearer  key-of-alice ") == 200
    assert ask("Bearer key-of-alic") == 401
    assert ask("Basic key-of-alice") == 401
    assert ask("Bearer \udcff\xff".encode("utf8", "surrogateescape").decode("latin1")) == 401
