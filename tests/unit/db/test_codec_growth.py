"""Lists that grow: whatever happens to them, each version reads back as it was written."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from pydantic import BaseModel

from trellis.db.checkpoints.cache import Cache
from trellis.db.checkpoints.chain import LONGEST, Chain, Link
from trellis.db.checkpoints.codec import next_version
from trellis.db.checkpoints.growth import decode, encode, measured
from trellis.db.serde import serializer
from trellis.errors import TrellisError


@dataclasses.dataclass
class Point:
    x: int
    tags: list[str]


class Model(BaseModel):
    name: str
    data: dict[str, Any] = {}


SERDE = serializer([Point, Model])


class Table:
    """The rows of one channel, and what each version held when it was written."""

    def __init__(self) -> None:
        self.rows: dict[str, tuple[Link, str | None]] = {}
        self.written: dict[str, bytes] = {}
        self.order: list[str] = []

    def write(self, value: Any, base: Chain | None) -> Chain:
        chain = encode(value, version=next_version(base and base.version), base=base, serde=SERDE)
        self.rows[chain.version] = (chain.links[-1], chain.base_version)
        self.written[chain.version] = SERDE.dumps_typed(value)[1]
        self.order.append(chain.version)
        return chain

    def stored(self, version: str) -> Chain:
        """The chain as another process finds it."""
        links: list[Link] = []
        at: str | None = version
        while at is not None:
            link, at = self.rows[at]
            links.insert(0, Link(link.version, link.type, link.data))
        return Chain(tuple(links))

    def check(self) -> None:
        for version, data in self.written.items():
            assert SERDE.dumps_typed(decode(self.stored(version), serde=SERDE))[1] == data


def message(n: int) -> HumanMessage:
    return HumanMessage(f"message {n} " * 20, id=str(n), additional_kwargs={"deep": [n]})


new_elements = st.lists(
    st.builds(message, st.integers(0, 99))
    | st.builds(lambda n: AIMessage("x" * n, tool_calls=[]), st.integers(0, 300))
    | st.builds(Point, st.integers(0, 9), st.lists(st.text(max_size=3), max_size=2))
    | st.builds(Model, name=st.text(max_size=50))
    | st.dictionaries(st.text(max_size=3), st.lists(st.integers(0, 9)), max_size=3)
    | st.text(max_size=600)
    | st.integers(0, 9),
    max_size=6,
)
steps = st.lists(
    st.tuples(
        st.sampled_from(
            ["append", "append", "append", "change", "remove", "insert", "fork", "restart", "swap"]
        ),
        st.integers(0, 10**6),
        new_elements,
    ),
    min_size=1,
    max_size=40,
)


def change_in_place(value: Any, n: int) -> bool:
    """Alter an element without replacing it. False: it cannot be altered."""
    if isinstance(value, HumanMessage):
        value.additional_kwargs.setdefault("deep", []).append(n)
    elif isinstance(value, AIMessage):
        value.content = f"changed {n}"
    elif isinstance(value, Point):
        value.tags.append(str(n))
    elif isinstance(value, Model):
        value.data[str(n)] = n
    elif isinstance(value, dict):
        value.setdefault("k", []).append(n)
    else:
        return False
    return True


@settings(max_examples=200)
@given(steps)
def test_any_history__reads_back_as_it_was_written(
    history: list[tuple[str, int, list[Any]]],
) -> None:
    table = Table()
    value: list[Any] = [message(n) for n in range(20)]
    base: Chain | None = table.write(value, None)
    for action, n, elements in history:
        at = n % (len(value) + 1)
        # As a reducer does: a new list of the same objects.
        value = list(value)
        match action:
            case "append":
                value += copy.deepcopy(elements)
            case "change" if value:
                change_in_place(value[at - 1], n)
            case "remove":
                del value[at : at + len(elements)]
            case "insert":
                value[at:at] = copy.deepcopy(elements)
            case "swap":
                value.reverse()
            case "fork" | "restart":
                version = table.order[n % len(table.order)] if action == "fork" else table.order[-1]
                value, base = measured(table.stored(version), serde=SERDE)
                value = [*value, *copy.deepcopy(elements)]
        base = table.write(value, base)
    table.check()


def conversation(length: int, *, step: int = 1) -> tuple[Table, Chain]:
    table = Table()
    value: list[Any] = [message(n) for n in range(1000)]
    chain = table.write(value, None)
    for n in range(1000, 1000 + length, step):
        value = [*value, *(message(n + more) for more in range(step))]
        chain = table.write(value, chain)
    return table, chain


@pytest.fixture(scope="module")
def long() -> tuple[Table, Chain]:
    return conversation(600)


def test_long_conversation__is_read_from_few_rows(long: tuple[Table, Chain]) -> None:
    table, chain = long
    lengths = [len(table.stored(version).links) for version in table.order]
    assert max(lengths) <= LONGEST
    assert max(lengths) <= 1 + 7 * 4
    assert decode(table.stored(chain.version), serde=SERDE) == [message(n) for n in range(1600)]


def test_long_conversation__costs_a_small_multiple_of_what_was_said(
    long: tuple[Table, Chain],
) -> None:
    table, _ = long
    appended = [link for link, base in table.rows.values() if base is not None]
    assert len(appended) == 600
    said = len(SERDE.dumps_typed([message(n) for n in range(1000, 1600)])[1])
    assert sum(link.size for link in appended) < 5 * said


def test_appended_rows__never_outweigh_the_full_one() -> None:
    table = Table()
    value: list[Any] = [message(n) for n in range(8)]
    chain = table.write(value, None)
    for n in range(200):
        value = [*value, message(n)]
        chain = table.write(value, chain)
        assert chain.appended <= chain.links[0].size
    assert sum(base is None for _, base in table.rows.values()) > 3


def test_change_in_place__writes_the_list_anew() -> None:
    table = Table()
    value = [message(n) for n in range(100)]
    chain = table.write(value, None)
    assert table.write([*value, message(100)], chain).base_version == chain.version
    value[3].additional_kwargs["deep"].append("changed")
    grown = table.write([*value, message(100)], chain)
    assert grown.base_version is None
    assert decode(grown, serde=SERDE)[3].additional_kwargs == {"deep": [3, "changed"]}


def test_unchanged_list_at_a_new_version__takes_a_row_of_next_to_nothing() -> None:
    table = Table()
    value = [message(n) for n in range(100)]
    chain = table.write(value, None)
    assert table.write(list(value), chain).links[-1].size == 1


def test_list_read_in_another_process__grows_on() -> None:
    table, _ = conversation(30)
    value, chain = measured(table.stored(table.order[-1]), serde=SERDE)
    grown = table.write([*value, message(1)], chain)
    assert grown.base_version is not None
    table.check()


def test_small_list__is_one_row() -> None:
    table = Table()
    value = ["a"]
    chain = table.write(value, None)
    for n in range(20):
        value = [*value, str(n)]
        chain = table.write(value, chain)
        assert chain.base_version is None


def test_value_read_twice__is_two_objects() -> None:
    table = Table()
    chain = table.write([message(n) for n in range(100)], None)
    first = decode(chain, serde=SERDE)
    first[0].content = "mine"
    first.clear()
    assert decode(chain, serde=SERDE) == [message(n) for n in range(100)]


def test_row_that_appends_to_no_list__is_refused() -> None:
    full = encode("text", version="1", base=None, serde=SERDE)
    more = encode(["a"], version="2", base=None, serde=SERDE)
    with pytest.raises(TrellisError):
        decode(Chain(full.links + more.links), serde=SERDE)


def one(version: str, size: int) -> Chain:
    return Chain((Link(version, "bytes", b"x" * size),))


def test_cache__knows_the_version() -> None:
    cache = Cache()
    cache.put(("t", "", "a"), one("1", 10))
    assert cache.get(("t", "", "a"), "1") == one("1", 10)
    assert cache.get(("t", "", "a"), "2") is None


def test_cache__forgets_what_was_not_used_for_longest() -> None:
    cache = Cache(max_bytes=5000)
    for n in range(4):
        cache.put(("t", "", str(n)), one("1", 500))
    cache.get(("t", "", "0"), "1")
    cache.put(("t", "", "9"), one("1", 500))
    assert cache.get(("t", "", "1"), "1") is None
    assert cache.get(("t", "", "0"), "1") is not None
    assert cache.bytes <= 5000


def test_cache__holds_nothing_larger_than_itself() -> None:
    cache = Cache(max_bytes=1000)
    cache.put(("t", "", "a"), one("1", 5000))
    assert cache.bytes == 0
