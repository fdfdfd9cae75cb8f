"""Words of the API are no ids, and ids are no words."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from werkzeug.exceptions import MethodNotAllowed

from trellis.api.routing import WORDS

LAST = re.compile(r"(.*/)(?:<\w+_id>|([a-z]+))")


def test_words__are_those_that_an_id_could_be_taken_for(app: Flask) -> None:
    ends = [
        found.groups() for rule in app.url_map.iter_rules() if (found := LAST.fullmatch(rule.rule))
    ]
    with_id = {parent for parent, word in ends if word is None}

    assert set(WORDS) == {word for parent, word in ends if word and parent in with_id}


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/threads/search", {"POST", "OPTIONS"}),
        ("/assistants/count", {"POST", "OPTIONS"}),
        ("/runs/crons", {"POST", "OPTIONS"}),
        ("/threads/x/state/bulk", {"POST", "OPTIONS"}),
        ("/threads/x", {"GET", "HEAD", "PATCH", "DELETE", "OPTIONS"}),
    ],
)
def test_path__has_the_methods_of_its_own_route(app: Flask, path: str, allowed: set[str]) -> None:
    routes = app.url_map.bind("localhost")

    assert set(routes.allowed_methods(path)) == allowed
    with pytest.raises(MethodNotAllowed):
        routes.match(path, method="PUT")


@pytest.mark.parametrize("name", ["search", "count"])
def test_subgraph__may_be_called_like_a_word(app: Flask, name: str) -> None:
    found, given = app.url_map.bind("localhost").match(f"/assistants/x/subgraphs/{name}")

    assert (found, given["namespace"]) == ("assistants.subgraph", name)


def test_routes__build_no_url(app: Flask) -> None:
    """Werkzeug has not compiled two functions for each of them, which is most of what making the application costs."""
    with pytest.raises(NotImplementedError, match="none builds a URL"):
        app.url_map.bind("localhost").build("system.ok", {})
