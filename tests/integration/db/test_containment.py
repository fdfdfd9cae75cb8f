"""The rules of containment, compared with Postgres's own."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
from sqlalchemy import Engine

from trellis.domain.containment import contains

VALUES: list[Any] = [
    None,
    True,
    0,
    1,
    1.0,
    1.5,
    "",
    "1",
    [],
    [1],
    [True],
    [1, 2, 2],
    [2, 1],
    [[1], 2],
    ["a", None],
    [{"b": 1}],
    [{"b": 1, "c": 2}, 3],
    {},
    {"b": 1},
    {"b": [1]},
    {"b": {"c": None}},
    {"b": {"c": None, "d": [{"e": 1}]}},
    {"b": {}},
    {"c": 2, "b": 1},
    {"b": [{"c": 1, "d": 2}, {"c": 2}]},
    {"b": [{"c": 2}]},
]


def test_contains__as_postgres_does(engine: Engine) -> None:
    pairs = [({"k": value}, {"k": part}) for value, part in itertools.product(VALUES, VALUES)]
    encoded = [[orjson.dumps(each).decode() for each in side] for side in zip(*pairs, strict=True)]
    with engine.connect() as tx:
        theirs = tx.exec_driver_sql(
            "SELECT v @> p FROM unnest(%s::jsonb[], %s::jsonb[]) WITH ORDINALITY AS t (v, p, n) ORDER BY n",
            tuple(encoded),
        ).scalars()
        wrong = [
            pair for pair, is_in in zip(pairs, theirs, strict=True) if contains(*pair) is not is_in
        ]

    assert wrong == []
