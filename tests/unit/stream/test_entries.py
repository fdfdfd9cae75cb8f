from __future__ import annotations

import pytest

from trellis.stream.entries import GAP, End, Entry, Event, Position, order, size


def event(entry_id: str, *, fence: int = 1, n: int, name: str = "custom") -> Entry:
    return [
        entry_id.encode(),
        [b"f", b"%d" % fence, b"n", b"%d" % n, b"e", name.encode(), b"x", b"frame"],
    ]


def end(entry_id: str, *, fence: int = 1, n: int, values: bytes | None = None) -> Entry:
    fields = [b"f", b"%d" % fence, b"n", b"%d" % n, b"end", b"success"]
    return [entry_id.encode(), fields + ([b"v", values] if values is not None else [])]


def test_advance() -> None:
    position = Position()

    items = position.advance([event("1-0", n=1), end("1-1", n=2, values=b"{}")])

    assert items == [Event(b"1-0", "custom", b"frame", 1, 1), End("success", b"{}", fence=1)]
    assert position == Position(b"1-1", 1, 2)


def test_advance__the_end_without_values() -> None:
    assert Position().advance([end("1-0", n=1)]) == [End("success", None, fence=1)]


def test_advance__nothing_follows_the_end() -> None:
    items = Position().advance([end("1-0", n=1), event("1-1", n=2)])

    assert items == [End("success", None, fence=1)]


def test_advance__the_start_is_missing() -> None:
    assert Position().advance([event("1-0", n=2)])[0] is GAP


def test_advance__something_is_missing_in_between() -> None:
    items = Position().advance([event("1-0", n=1), event("1-1", n=4)])

    assert items[1] is GAP
    assert len(items) == 3


def test_advance__something_is_missing_before_the_end() -> None:
    items = Position().advance([event("1-0", n=1), end("1-1", n=3)])

    assert items[1:] == [GAP, End("success", None, fence=1)]


def test_advance__seen_before() -> None:
    position = Position(b"1-0", 1, 5)

    assert position.advance([event("2-0", n=5), event("2-1", n=6)]) == [
        Event(b"2-1", "custom", b"frame", 1, 6)
    ]


def test_advance__the_next_attempt_counts_from_one() -> None:
    position = Position(b"1-0", 1, 5)

    items = position.advance([event("2-0", fence=2, n=1), event("2-1", fence=1, n=6)])

    assert items == [Event(b"2-0", "custom", b"frame", 2, 1)]


def test_advance__the_next_attempt_lost_its_start() -> None:
    assert Position(b"1-0", 1, 5).advance([event("2-0", fence=2, n=2)])[0] is GAP


def test_advance__from_somewhere_nothing_is_missing() -> None:
    position = Position(b"1-0", 0, None)

    [found] = position.advance([event("2-0", fence=3, n=17)])

    assert found == Event(b"2-0", "custom", b"frame", 3, 17)
    assert position.n == 17


@pytest.mark.parametrize("fields", [[], [b"a", b"1"], [b"a", b"1", b"b", b"2", b"c", b"3"]])
def test_advance__an_entry_that_is_not_ours(fields: list[bytes]) -> None:
    items = Position().advance([[b"1-0", fields], event("1-1", n=1)])

    assert items == [Event(b"1-1", "custom", b"frame", 1, 1)]


def test_order__is_that_of_numbers() -> None:
    ids = [b"9-0", b"10-0", b"10-2", b"10-11"]

    assert sorted(ids, key=order) == ids


def test_size() -> None:
    assert size([Event(b"1-0", "a", b"12345"), End("success", b"x" * 1_000)]) >= 1_005
