"""Rounds into rows, rows into the table and the JSON file."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.goals import GOALS, Goal, higher_is_better
from benchmarks.scenarios import Record
from benchmarks.stats import median

OURS = "ours"
PEER = "peer"

TEXT_COLUMNS = ("scenario", "measure", "ours is")

#: Per scenario, the records of each side in the order of their rounds.
Records = Mapping[str, Mapping[str, Sequence[Record]]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measure of one scenario on both sides."""

    scenario: str
    measure: str
    ours: float | None
    peer: float | None = None
    goal: Goal | None = None
    #: None: nothing was promised. A scenario with errors holds no floor.
    holds: bool | None = None
    #: Ours by kind of process, where the measure is a sum.
    parts: Mapping[str, float] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; below one it is worse. None when not comparable."""
        has_unit = ", " in self.measure
        if not has_unit or not self.ours or not self.peer or self.ours < 0 or self.peer < 0:
            return None
        better = self.ours / self.peer
        return better if higher_is_better(self.measure) else 1 / better


def rows(records: Records) -> list[Row]:
    """Put the sides together: one row per measure, the median over the rounds."""
    found: list[Row] = []
    for scenario, sides in records.items():
        ours, peer = _merged(sides.get(OURS, ())), _merged(sides.get(PEER, ()))
        failed = bool(errors(sides.get(OURS, ())))
        measures = dict.fromkeys([*ours, *peer])
        found += [
            _row(scenario, measure, ours=ours, peer=peer, failed=failed)
            for measure in measures
            if _whole(measure) not in measures
        ]
        found += _error_rows(scenario, sides)
    return found


def _row(
    scenario: str,
    measure: str,
    *,
    ours: Mapping[str, float],
    peer: Mapping[str, float],
    failed: bool,
) -> Row:
    goal, value = GOALS.get((scenario, measure)), ours.get(measure)
    return Row(
        scenario=scenario,
        measure=measure,
        ours=value,
        peer=peer.get(measure),
        goal=goal,
        holds=_holds(goal, value, failed=failed),
        parts=_parts(ours, measure),
    )


def errors(records: Sequence[Record]) -> list[str]:
    """List everything that failed in some rounds."""
    return [error for record in records for error in record.errors]


def table(found: Sequence[Row]) -> str:
    """Lay the rows out as plain text, aligned; columns that nobody fills are left out."""
    lines = [["scenario", "measure", "ours", "floor", "goal", "peer", "ratio", "", "ours is"]]
    for before, row in zip([None, *found], found, strict=False):
        lines.append(_cells(row, repeated=before is not None and before.scenario == row.scenario))
    columns = [column for column in zip(*lines, strict=True) if any(column[1:])]
    return _aligned(list(zip(*columns, strict=True)))


def _cells(row: Row, *, repeated: bool) -> list[str]:
    return [
        "" if repeated else row.scenario,
        row.measure,
        number(row.ours),
        _bound(row.goal, "floor"),
        _bound(row.goal, "goal"),
        number(row.peer),
        f"{number(row.ratio)}x" if row.ratio else "",
        {True: "✓", False: "✗", None: ""}[row.holds],
        " + ".join(f"{kind} {number(part)}" for kind, part in row.parts.items()),
    ]


def number(value: float | None) -> str:
    """Write a number with about three significant digits."""
    if value is None or math.isnan(value):
        return ""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if abs(value) >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}"


def failures(records: Records, *, limit: int = 3) -> list[str]:
    """Quote the first errors of each scenario and side."""
    quoted = []
    for scenario, sides in records.items():
        for side, rounds in sides.items():
            found = errors(rounds)
            quoted += [f"{scenario}, {side}: {error}" for error in found[:limit]]
            if len(found) > limit:
                quoted.append(f"{scenario}, {side}: … and {len(found) - limit} more")
    return quoted


def summary(found: Sequence[Row]) -> str:
    """Say in a line how many floors are held, and by how much the peer is beaten."""
    judged = [row.holds for row in found if row.goal and row.holds is not None]
    text = f"{judged.count(True)} of {len(judged)} floors held"
    ratios = [row.ratio for row in found if row.goal and row.ratio]
    if ratios:
        text += f"; beside the peer, on these measures: {number(min(ratios))}x to {number(max(ratios))}x"
    return text


def as_json(records: Records, found: Sequence[Row], about: Mapping[str, str]) -> dict[str, object]:
    """Give everything that was found, for another program."""
    return {
        "about": dict(about),
        "rows": [
            {
                "scenario": row.scenario,
                "measure": row.measure,
                "ours": _json_number(row.ours),
                "peer": _json_number(row.peer),
                "ratio": _json_number(row.ratio),
                "floor": row.goal.floor if row.goal else None,
                "goal": row.goal.goal if row.goal else None,
                "holds": row.holds,
                "parts": {kind: _json_number(part) for kind, part in row.parts.items()},
            }
            for row in found
        ],
        "rounds": {
            scenario: {
                side: [_json_round(record) for record in rounds] for side, rounds in sides.items()
            }
            for scenario, sides in records.items()
        },
    }


def _json_round(record: Record) -> dict[str, object]:
    values = {measure: _json_number(value) for measure, value in record.values.items()}
    return {"values": values, "operations": record.operations, "errors": record.errors}


def _json_number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _merged(rounds: Sequence[Record]) -> dict[str, float]:
    measures = dict.fromkeys(measure for record in rounds for measure in record.values)
    return {
        measure: median([r.values[measure] for r in rounds if measure in r.values])
        for measure in measures
    }


def _whole(measure: str) -> str:
    """Name the sum that a measure is a part of, if it is one: what stands before its last comma."""
    return measure.rpartition(", ")[0]


def _parts(values: Mapping[str, float], whole: str) -> dict[str, float]:
    return {
        measure.rpartition(", ")[2]: value
        for measure, value in values.items()
        if _whole(measure) == whole
    }


def _holds(goal: Goal | None, value: float | None, *, failed: bool) -> bool | None:
    if goal is None or value is None:
        return None
    return goal.holds(value) and not failed


def _error_rows(scenario: str, sides: Mapping[str, Sequence[Record]]) -> list[Row]:
    counts = {side: len(errors(rounds)) for side, rounds in sides.items()}
    if not any(counts.values()):
        return []
    operations = sum(record.operations for record in sides.get(OURS, ()))
    return [
        Row(
            scenario=scenario,
            measure=f"ERRORS (of {operations:,} operations)",
            ours=counts.get(OURS),
            peer=counts.get(PEER),
            holds=False if counts.get(OURS) else None,
        )
    ]


def _bound(goal: Goal | None, which: str) -> str:
    if goal is None:
        return ""
    return f"{'≥' if goal.higher_is_better else '≤'} {getattr(goal, which):,g}"


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = [
        "  ".join(
            cell.ljust(width) if head in TEXT_COLUMNS else cell.rjust(width)
            for head, cell, width in zip(lines[0], cells, widths, strict=True)
        ).rstrip()
        for cells in lines
    ]
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])
