from __future__ import annotations

import pytest

from trellis.domain import places
from trellis.domain.places import END, START, Place


def test_seq__rises_as_events_happen() -> None:
    happened = [(1, 1, 0), (1, 1, 1), (1, 2, 0), (1, END, 0), (2, 1, 0), (300, 7, 5)]

    numbers = [places.seq(*place) for place in happened]

    assert numbers == sorted(set(numbers))
    assert [places.place_of_seq(number) for number in numbers] == happened


def test_seq__is_exact_in_javascript() -> None:
    assert places.seq(2**21 - 1, END, 1023) == 2**53 - 1


def test_seq__never_falls_when_an_attempt_sends_too_much() -> None:
    assert places.seq(1, END + 5, 2_000) == places.seq(1, END, 1023) < places.seq(2, 1, 0)


@pytest.mark.parametrize(
    ("text", "place"),
    [("-", START), ("0", START), ("0-0", START), ("3-17", Place(3, 17)), ("5", Place(5, 0))],
)
def test_place_of_id(text: str, place: Place) -> None:
    assert places.place_of_id(text) == place


@pytest.mark.parametrize("text", ["", "-1", "a-1", "1-", "1-2-3", "1" * 21, "\u0661", "1\n"])
def test_place_of_id__none(text: str) -> None:
    assert places.place_of_id(text) is None


def test_event_id__comes_back() -> None:
    assert places.place_of_id(places.event_id(3, 17).decode()) == Place(3, 17)
