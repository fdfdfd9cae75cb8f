"""The store's semantic index: which texts mean what, the order of what is found, on pgvector and without it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.store.base import PutOp, SearchOp
from langgraph.store.memory import InMemoryStore
from sqlalchemy import Engine

from trellis.db.store import PostgresStore, sweep
from trellis.db.vectors import Index
from trellis.errors import EmbeddingFailed, Invalid

LETTERS = "abcd"


class Letters:
    """Embeds a text as how often it has each of four letters, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        self.asked.append(texts)
        return [[float(text.count(letter)) for letter in LETTERS] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


@pytest.fixture
def letters() -> Letters:
    return Letters()


def without_pgvector(engine: Engine) -> None:
    """Let the database be one whose owner has no pgvector, and may not install it."""
    with engine.begin() as tx:
        tx.exec_driver_sql(
            """
            DROP EXTENSION vector CASCADE;
            CREATE ROLE plain;
            GRANT ALL ON SCHEMA public TO plain;
            ALTER FUNCTION store_similarity OWNER TO plain;
            SET LOCAL ROLE plain;
            """
        )
        assert tx.exec_driver_sql("SELECT store_choose_similarity()").scalar() == "sql"
        tx.exec_driver_sql(
            "RESET ROLE; REASSIGN OWNED BY plain TO CURRENT_USER; DROP OWNED BY plain; DROP ROLE plain"
        )


@pytest.fixture(params=["pgvector", "sql"])
def database(request: pytest.FixtureRequest, engine: Engine) -> Engine:
    """A database that compares vectors in each of the two ways."""
    with engine.begin() as tx:
        chosen = tx.exec_driver_sql("SELECT store_choose_similarity()").scalar_one()
    if request.param == "pgvector" and chosen != "pgvector":
        pytest.skip("this Postgres has no pgvector")
    if request.param == "sql" and chosen != "sql":
        without_pgvector(engine)
    return engine


@pytest.fixture
def new_store() -> Iterator[Callable[..., PostgresStore]]:
    stores = []

    def make(engine: Engine, embeddings: Any, **index: Any) -> PostgresStore:
        fields = {"embeddings": embeddings, "dims": len(LETTERS), "fields": ["$"], **index}
        stores.append(PostgresStore(engine, "default", index=Index(**fields)))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def store(
    new_store: Callable[..., PostgresStore], engine: Engine, letters: Letters
) -> PostgresStore:
    return new_store(engine, letters, fields=["text"])


def scores(items: Sequence[Any]) -> list[tuple[str, float | None]]:
    return [(each.key, each.score and round(each.score, 5)) for each in items]


def vectors(engine: Engine) -> int:
    with engine.connect() as tx:
        return int(tx.exec_driver_sql("SELECT count(*) FROM store_vector").scalar_one())


def test_search__the_nearest_first(
    new_store: Callable[..., PostgresStore], database: Engine, letters: Letters
) -> None:
    store = new_store(database, letters, fields=["text"])
    store.put(("n",), "a", {"text": "aaaa"})
    store.put(("n",), "ab", {"text": "ab"})
    store.put(("n",), "c", {"text": "c"})
    store.put(("n",), "nothing", {"text": "xyz"})
    store.put(("n",), "unindexed", {"text": "a"}, index=False)
    store.put(("n",), "textless", {"other": "a"})
    store.put(("m",), "elsewhere", {"text": "a"})

    found = store.search(("n",), query="a")

    half = round(math.sqrt(0.5), 5)
    assert scores(found) == [
        ("a", 1.0),
        ("ab", half),
        ("nothing", 0.0),
        ("c", 0.0),
        ("textless", None),
        ("unindexed", None),
    ]
    pages = [scores(store.search(("n",), query="a", limit=2, offset=n)) for n in (0, 2, 4)]
    assert [each for page in pages for each in page] == scores(found)
    assert scores(store.search(("n",), query="a", filter={"text": "ab"})) == [("ab", half)]


# No text twice in an item: the memory store fails on that. Nor `$` for one item, which it takes for a key.
values = st.lists(st.text(LETTERS + "x", max_size=4), min_size=1, max_size=4, unique=True).map(
    lambda texts: {"text": texts[0], "list": [{"t": text} for text in texts[1:]]}
)
indexed = st.sampled_from([None, False, ["list[*].t"], ["nowhere", "text"]])


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(values, indexed), max_size=6), st.text(LETTERS, min_size=1, max_size=4))
def test_search__ranks_as_langgraphs_memory_store_does(
    database: Engine,
    new_store: Callable[..., PostgresStore],
    items: list[tuple[dict[str, Any], Any]],
    query: str,
) -> None:
    fields = ["text", "list[*].t"]
    ours = new_store(database, Letters(), fields=fields)
    memory = InMemoryStore(index={"dims": 4, "embed": Letters().embed_documents, "fields": fields})
    ours.batch([PutOp(each.namespace, each.key, None) for each in ours.search((), limit=100)])
    for n, (value, index) in enumerate(items):
        # One by one: in a batch, the memory store gives texts that several items share the wrong vectors.
        ours.put(("n",), str(n), value, index=index)
        memory.put(("n",), str(n), value, index=index)

    found, expected = (each.search(("n",), query=query, limit=100) for each in (ours, memory))

    assert sorted(scores(found), key=str) == sorted(scores(expected), key=str)
    ranks = [score for _, score in scores(found)]
    assert ranks == [score for _, score in scores(expected)]


@pytest.mark.parametrize(
    ("value", "index", "expected"),
    [
        ({"text": "a", "list": ["b"]}, None, ["a"]),
        ({"text": "a"}, False, []),
        ({"text": "a"}, [], []),
        ({"text": "a", "list": ["b", "c"]}, ["list[*]", "list[-1]"], ["b", "c", "c"]),
        ({"text": "a", "deep": {"er": "b"}}, ["deep.er", "missing"], ["b"]),
        ({"b": 1, "a": "\u00e9"}, ["$"], ['{"a": "\u00e9", "b": 1}']),
        (
            {"text": datetime(2026, 1, 2, tzinfo=UTC)},
            ["$"],
            ['{"text": "2026-01-02T00:00:00+00:00"}'],
        ),
        ({"text": None}, None, []),
    ],
)
def test_put__embeds_what_it_is_told_to(
    store: PostgresStore,
    engine: Engine,
    letters: Letters,
    value: dict[str, Any],
    index: Any,
    expected: list[str],
) -> None:
    store.put(("n",), "k", value, index=index)

    assert [text for asked in letters.asked for text in asked] == list(dict.fromkeys(expected))
    assert vectors(engine) == len(expected)


def test_batch__embeds_each_text_once(store: PostgresStore, letters: Letters) -> None:
    store.batch(
        [
            PutOp(("n",), "1", {"text": "a"}),
            PutOp(("n",), "2", {"text": "a"}),
            PutOp(("n",), "3", {"text": "never"}),
            PutOp(("n",), "3", {"text": "b"}),
            SearchOp(("n",), query="c"),
            SearchOp(("n",), query="c"),
        ]
    )

    assert letters.asked == [["a", "b"], ["c"]]
    assert scores(store.search(("n",), query="b")) == [("3", 1.0), ("2", 0.0), ("1", 0.0)]


def test_put__replaces_the_vectors(store: PostgresStore, engine: Engine) -> None:
    store.put(("n",), "k", {"text": "a", "more": ["b", "c"]}, index=["text", "more[*]"])
    store.put(("n",), "k", {"text": "d"})

    assert vectors(engine) == 1
    assert scores(store.search(("n",), query="a")) == [("k", 0.0)]


def test_put__by_a_store_without_an_index(store: PostgresStore, engine: Engine) -> None:
    """What the item meant before is forgotten, so that it is not found by it when there is an index again."""
    store.put(("n",), "k", {"text": "a"})
    plain = PostgresStore(engine, "default")
    plain.put(("n",), "k", {"text": "b"})
    plain.close()

    assert scores(store.search(("n",), query="a")) == [("k", None)]


def test_vectors__go_with_the_item(store: PostgresStore, engine: Engine) -> None:
    store.put(("n",), "deleted", {"text": "a"})
    store.put(("n",), "expired", {"text": "a"}, ttl=1)
    store.delete(("n",), "deleted")
    with engine.begin() as tx:
        tx.exec_driver_sql("UPDATE store_item SET expires_at = clock_timestamp()")
    assert store.search(("n",), query="a") == []

    with engine.begin() as tx:
        sweep(tx, limit=10)

    assert vectors(engine) == 0


def test_tenants__do_not_find_each_others(
    store: PostgresStore, engine: Engine, letters: Letters
) -> None:
    other = PostgresStore(engine, "other", index=Index(embeddings=letters, dims=4, fields=["text"]))
    store.put(("n",), "k", {"text": "a"})
    other.put(("n",), "k", {"text": "b"})

    assert scores(store.search((), query="a")) == [("k", 1.0)]
    assert scores(other.search((), query="a")) == [("k", 0.0)]
    other.close()


def test_another_number_of_dimensions__is_another_index(
    store: PostgresStore, database: Engine, new_store: Callable[..., PostgresStore]
) -> None:
    class Two:
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [[1.0, 0.0] for _ in texts]

        def embed_query(self, text: str) -> list[float]:
            return [1.0, 0.0]

    store.put(("n",), "old", {"text": "a"})
    later = new_store(database, Two(), dims=2, fields=["text"])
    later.put(("n",), "new", {"text": "a"})

    assert scores(later.search(("n",), query="a")) == [("new", 1.0), ("old", None)]


def test_numbers_of_any_size__are_stored(
    database: Engine, new_store: Callable[..., PostgresStore]
) -> None:
    class Extreme(Letters):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return [
                [1e300, 1e-300, -1e-310, 5e-324] if text == "a" else [5e-324] * 4 for text in texts
            ]

    store = new_store(database, Extreme(), fields=["text"])
    store.put(("n",), "a", {"text": "a"})
    store.put(("n",), "b", {"text": "b"})

    assert scores(store.search(("n",), query="a")) == [("a", 1.0), ("b", 0.5)]


def returning(answer: Any) -> Any:
    class Answering(Letters):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            if isinstance(answer, BaseException):
                raise answer
            found: list[list[float]] = answer
            return found

    return Answering()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ValueError("sk-secret"), "raised ValueError"),
        (SystemExit("sk-secret"), "raised SystemExit"),
        ([], "returned 0 vectors for 1 texts"),
        ([[1.0] * 4] * 2, "returned 2 vectors for 1 texts"),
        ([[1.0, 2.0]], "returned a vector of 2 numbers, not 4"),
        ([[1.0, 2.0, 3.0, math.nan]], "not finite"),
        ([[1.0, 2.0, 3.0, math.inf]], "not finite"),
        ([["x"] * 4], "raised ValueError"),
        ([None], "raised TypeError"),
        (None, "raised TypeError"),
    ],
    ids=str,
)
def test_embedding_that_fails__writes_nothing(
    new_store: Callable[..., PostgresStore], engine: Engine, answer: Any, message: str
) -> None:
    store = new_store(engine, returning(answer), fields=["text"])

    with pytest.raises(EmbeddingFailed, match=message) as raised:
        store.batch([PutOp(("n",), "plain", {}), PutOp(("n",), "k", {"text": "a"})])

    assert "secret" not in raised.value.detail
    assert store.search(("n",)) == []


@pytest.mark.parametrize(
    "value",
    [{"text": "a", "o": object()}, {"text": "\0"}, {"text": ["a"] * 1001}],
    ids=["object", "NUL", "many"],
)
def test_what_cannot_be_stored__is_not_embedded(
    store: PostgresStore, letters: Letters, value: dict[str, Any]
) -> None:
    with pytest.raises(Invalid):
        store.put(("n",), "k", value, index=["text[*]", "$"])

    assert letters.asked == []
