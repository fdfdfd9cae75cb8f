"""Rounds into rows, rows into a table."""

import json
import math

import pytest

from benchmarks.goals import GOALS, Goal
from benchmarks.report import Row, as_json, failures, number, rows, summary, table
from benchmarks.scenarios import Record, registered

WAIT = "wait on a thread p50, ms"
RATE = "128 at a time, runs/s"


def latency(*values: float, errors: tuple[str, ...] = ()) -> list[Record]:
    return [Record(values={WAIT: value}, errors=list(errors), operations=9) for value in values]


def test_rows__the_median_over_the_rounds():
    (row,) = rows({"latency": {"ours": latency(10.0, 14.0), "peer": latency(900.0, 1100.0)}})

    assert (row.ours, row.peer) == (12.0, 1000.0)


@pytest.mark.parametrize(("value", "holds"), [(19.9, True), (20.0, True), (20.1, False)])
def test_rows__floor_where_less_is_better(value, holds):
    (row,) = rows({"latency": {"ours": latency(value)}})

    assert row.holds is holds


@pytest.mark.parametrize(("value", "holds"), [(149.0, False), (150.0, True), (math.nan, False)])
def test_rows__floor_where_more_is_better(value, holds):
    (row,) = rows({"echo": {"ours": [Record(values={RATE: value})]}})

    assert row.holds is holds


def test_rows__errors_hold_no_floor():
    found = rows({"latency": {"ours": latency(5.0, errors=("refused",))}})

    assert [row.holds for row in found] == [False, False]
    assert "ERRORS (of 9 operations)" in found[1].measure
    assert found[1].ours == 1


def test_rows__errors_of_the_peer_are_shown_and_not_ours():
    found = rows({"latency": {"ours": latency(5.0), "peer": latency(5.0, errors=("refused",))}})

    assert [row.holds for row in found] == [True, None]
    assert (found[1].ours, found[1].peer) == (0, 1)


def test_rows__nothing_promised():
    (row,) = rows({"cpu": {"ours": [Record(values={"8 at a time, runs/s": 9.0})]}})

    assert row.holds is None


@pytest.mark.parametrize(
    ("measure", "ours", "peer", "expected"),
    [
        ("turn p50, ms", 10.0, 1000.0, 100.0),
        ("32 streams, events/s", 6000.0, 1000.0, 6.0),
        ("growth, KB/run", -1.0, 5.0, None),
        ("growth, KB/run", 0.0, 5.0, None),
        ("turn p50, ms", 10.0, None, None),
        ("streams open at once", 10.0, 20.0, None),
    ],
)
def test_ratio(measure, ours, peer, expected):
    row = Row(scenario="any", measure=measure, ours=ours, peer=peer)

    assert row.ratio == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (math.nan, ""),
        (0.0, "0.00"),
        (1.234, "1.23"),
        (12.34, "12.3"),
        (123.4, "123"),
        (12345.6, "12,346"),
        (-0.5, "-0.50"),
    ],
)
def test_number(value, text):
    assert number(value) == text


def test_table():
    found = [
        Row(
            scenario="latency",
            measure=WAIT,
            ours=12.1,
            peer=999.0,
            goal=Goal(floor=20, goal=8),
            holds=True,
        ),
        Row(
            scenario="echo",
            measure=RATE,
            ours=90.0,
            peer=45.0,
            goal=Goal(floor=150, goal=300, higher_is_better=True),
            holds=False,
        ),
        Row(scenario="echo", measure="128 at a time p50, ms", ours=400.0),
    ]

    text = table(found)

    assert text.splitlines() == [
        "scenario  measure                   ours  floor   goal  peer  ratio",
        "----------------------------------------------------------------------",
        "latency   wait on a thread p50, ms  12.1   ≤ 20    ≤ 8   999  82.6x  ✓",
        "echo      128 at a time, runs/s     90.0  ≥ 150  ≥ 300  45.0  2.00x  ✗",
        "          128 at a time p50, ms      400",
    ]


def test_table__leaves_out_empty_columns():
    head = table([Row(scenario="cpu", measure="8 at a time, runs/s", ours=9.0)]).splitlines()[0]

    assert head.split() == ["scenario", "measure", "ours"]


def test_rows__parts_belong_to_their_sum():
    cpu = "128 at a time, CPU ms/run"
    ours = {cpu: 7.5, f"{cpu}, web": 2.5, f"{cpu}, worker": 5.0, "128 at a time, runs/s": 160.0}

    found = rows({"echo": {"ours": [Record(values=ours)]}})

    assert [row.measure for row in found] == [cpu, "128 at a time, runs/s"]
    assert found[0].parts == {"web": 2.5, "worker": 5.0}
    assert table(found).splitlines()[2].endswith("✓  web 2.50 + worker 5.00")


def test_summary():
    records = {
        "latency": {"ours": latency(10.0), "peer": latency(1000.0)},
        "cpu": {"ours": [Record(values={"8 at a time, runs/s": 9.0})]},
        "start": {"peer": [Record(values={"web answers /ok, s": 1.0})]},
    }

    assert summary(rows(records)) == (
        "1 of 1 floors held; beside the peer, on these measures: 100x to 100x"
    )


def test_failures__quotes_a_few():
    records = {"latency": {"ours": latency(5.0, errors=("a", "b", "c", "d"))}}

    assert failures(records, limit=2) == [
        "latency, ours: a",
        "latency, ours: b",
        "latency, ours: … and 2 more",
    ]


def test_as_json__has_no_nan():
    records = {"latency": {"ours": latency(math.nan)}}

    text = json.dumps(as_json(records, rows(records), {"when": "now"}), allow_nan=False)

    assert json.loads(text)["rows"][0]["ours"] is None


def test_goals__belong_to_scenarios():
    assert {scenario for scenario, _ in GOALS} <= {"start", *registered()}


@pytest.mark.parametrize("goal", GOALS.values(), ids=[" ".join(key) for key in GOALS])
def test_goals__are_beyond_their_floors(goal):
    assert goal.holds(goal.goal)
    assert goal.goal != goal.floor
