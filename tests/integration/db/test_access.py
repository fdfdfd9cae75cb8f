"""Conditions on metadata, as Postgres judges them."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, literal, select
from sqlalchemy.dialects.postgresql import JSONB

from trellis.db.access import meets
from trellis.domain.access import condition_of

METADATA = {"owner": "alice", "team": None, "tags": ["a", "b"], "org": {"id": 1, "x": 2}, "n": 1}


@pytest.mark.parametrize(
    ("raw", "met"),
    [
        ({}, True),
        ({"owner": "alice"}, True),
        ({"owner": {"$eq": "alice"}}, True),
        ({"owner": "Alice"}, False),
        ({"owner": ["alice"]}, False),
        ({"nobody": None}, False),
        ({"team": None}, True),
        ({"n": 1}, True),
        ({"n": "1"}, False),
        ({"n": True}, False),
        ({"tags": "a"}, False),
        ({"tags": ["a"]}, False),
        ({"tags": ["a", "b"]}, True),
        ({"org": {"$eq": {"id": 1}}}, False),
        ({"org": {"$eq": {"id": 1, "x": 2}}}, True),
        ({"tags": {"$contains": "a"}}, True),
        ({"tags": {"$contains": ["b", "a"]}}, True),
        ({"tags": {"$contains": ["a", "c"]}}, False),
        ({"owner": {"$contains": "alice"}}, False),
        ({"owner": "alice", "tags": {"$contains": "c"}}, False),
        ({"$or": [{"owner": "bob"}, {"tags": {"$contains": "a"}}]}, True),
        ({"$or": [{"owner": "bob"}, {"owner": "carol"}]}, False),
        ({"$or": []}, False),
        ({"$and": [{"owner": "alice"}, {"n": 1}]}, True),
        ({"$and": [{"owner": "alice"}, {"n": 2}]}, False),
        ({"owner' OR '1'='1": "x"}, False),
    ],
    ids=str,
)
def test_meets(engine: Engine, raw: dict[str, Any], met: bool) -> None:
    judged = meets(literal(METADATA, JSONB), condition_of(raw))

    with engine.connect() as tx:
        assert tx.execute(select(judged)).scalar_one() is met
