from __future__ import annotations

from trellis.domain.runs import RunState, RunStatus
from trellis.stream import log
from trellis.stream.entries import Entry, Event, Position
from trellis.stream.mux import Mux
from trellis.stream.reader import Timing, _Feed, _Follower

NOWHERE = "redis://127.0.0.1:1"


async def running() -> RunState:
    return RunState(status=RunStatus.RUNNING, fence=1)


def entry(n: int) -> Entry:
    return [b"%d-0" % n, [b"f", b"1", b"n", b"%d" % n, b"e", b"custom", b"x", b"%d" % n]]


def numbers(follower: _Follower) -> list[int]:
    return [int(item.frame) for item in follower.buffer if isinstance(item, Event)]


def feed_with(*followers: _Follower) -> _Feed:
    control = log.connect(NOWHERE, max_connections=1, timeout_seconds=1)
    feed = _Feed(b"s:r1", Position(), Mux(NOWHERE, control, on_down=lambda: None))
    for follower in followers:
        follower.feed = feed
        feed.followers.add(follower)
    return feed


def new_follower(timing: Timing | None = None) -> _Follower:
    return _Follower("r1", running, timing or Timing(), "0")


def test_deliver__a_follower_that_read_ahead_gets_nothing_twice() -> None:
    ahead, other = new_follower(), new_follower()
    ahead.position, ahead.ahead = Position(b"3-0", 1, 3), True
    feed = feed_with(ahead, other)

    feed.deliver([entry(n) for n in (1, 2)])
    feed.deliver([entry(n) for n in (3, 4)])
    feed.deliver([entry(5)])

    assert numbers(other) == [1, 2, 3, 4, 5]
    assert numbers(ahead) == [4, 5]
    assert ahead.ahead is False


def test_deliver__a_full_follower_goes_on_by_itself_from_there() -> None:
    slow = new_follower(Timing(max_items=2))
    feed = feed_with(slow)

    feed.deliver([entry(n) for n in (1, 2, 3)])
    feed.deliver([entry(4)])

    assert slow.feed is None
    assert slow.position == Position(b"3-0", 1, 3)
    assert numbers(slow) == [1, 2, 3]


def test_deliver__full_by_bytes() -> None:
    slow = new_follower(Timing(max_bytes=3))
    feed_with(slow).deliver([entry(10), entry(11)])

    assert slow.full


def test_take__a_beat_gives_way_to_events() -> None:
    follower = new_follower()
    follower.beat = True
    follower.put([Event(b"1-0", "custom", b"1")], 1)

    assert [type(item) for item in follower.take(1.0)] == [Event]
    assert follower.take(2.0) == []
