"""The description of the API, compared with its routes."""

from __future__ import annotations

import json

from flask import Flask

from trellis.api import docs, openapi


def test_operations__every_route_is_described(app: Flask) -> None:
    routes = {rule.endpoint for rule in app.url_map.iter_rules()}

    assert set(openapi.OPERATIONS) == routes


def test_operations__whoever_is_sent_a_body_says_which(app: Flask) -> None:
    for rule in app.url_map.iter_rules():
        # The official clients delete an item with a body.
        sends_body = bool({"POST", "PUT", "PATCH"} & (rule.methods or set()))
        sends_body |= rule.endpoint == "store.delete"
        assert (openapi.OPERATIONS[rule.endpoint].takes is not None) == sends_body


def test_describe(app: Flask) -> None:
    document = openapi.describe(app)

    create = document["paths"]["/threads/{thread_id}/runs"]["post"]
    assert document["openapi"] == "3.1.0"
    assert create["summary"] == "Create a run in the background."
    assert create["parameters"][0]["schema"] == {"type": "string", "format": "uuid"}
    assert create["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/RunCreate"
    }
    stream = document["paths"]["/runs/stream"]["post"]["responses"]["200"]["content"]
    assert list(stream) == ["text/event-stream"]


def test_describe__whoever_follows_a_run_is_told_where_it_is(app: Flask) -> None:
    paths = openapi.describe(app)["paths"]
    many = ("/runs/cancel", "/threads/{thread_id}/stream")
    followed = [path for path in paths if path.endswith(("/stream", "/wait", "/join", "/cancel"))]

    for path in followed:
        for operation in paths[path].values() if path not in many else ():
            headers = operation["responses"]["200"].get("headers", {})
            assert [*headers] == ["Content-Location", "Location"], path
    assert len(followed) == 11


def test_describe__every_reference_leads_somewhere(app: Flask) -> None:
    document = openapi.describe(app)

    text = json.dumps(document)
    used = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert used <= set(document["components"]["schemas"])


def test_describe__what_a_client_selects_is_all_it_can_count_on(app: Flask) -> None:
    document = openapi.describe(app)

    found = document["paths"]["/threads/search"]["post"]["responses"]["200"]
    [name] = found["content"]["application/json"]["schema"]["items"].values()
    selected = document["components"]["schemas"][name.rpartition("/")[2]]
    assert selected["required"] == []
    assert [*selected["properties"]] == [*document["components"]["schemas"]["Thread"]["properties"]]
    assert [*found["headers"]] == ["X-Pagination-Total", "X-Pagination-Next"]


def test_describe__every_operation_has_a_summary(app: Flask) -> None:
    for methods in openapi.describe(app)["paths"].values():
        for operation in methods.values():
            assert operation["summary"].endswith(".")


def test_page__shows_every_operation_and_escapes_it() -> None:
    operation = {
        "tags": ["a"],
        "summary": "<b>",
        "parameters": [],
        "responses": {"200": {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    }
    document = {
        "info": {"title": "T", "version": "1"},
        "paths": {"/x/{y}": {"get": operation}},
        "components": {"schemas": {}},
    }

    page = docs.page(document)

    assert "/x/{y}" in page
    assert "&lt;b&gt;" in page
    assert "<b></span>" not in page
