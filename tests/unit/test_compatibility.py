"""docs/compatibility.md names tests that exist, and lists what the replay finds."""

import json
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
PAGE = (TESTS.parent / "docs" / "compatibility.md").read_text()
ROWS = [
    tuple(cell.strip() for cell in line.split("|")[1:-1])
    for line in PAGE.splitlines()
    if line.startswith("| ") and not line.startswith("| feature ")
]


@pytest.mark.parametrize(("feature", "state", "test", "note"), ROWS)
def test_row(feature: str, state: str, test: str, note: str) -> None:
    assert state in ("works", "partly", "not yet")
    assert "::" in test or state == "not yet"
    assert note or state != "partly"


@pytest.mark.parametrize(("path", "name"), sorted({*re.findall(r"`(\S+\.py)::(\w+)`", PAGE)}))
def test_tests_exist(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (TESTS / path).read_text(), re.MULTILINE)


def test_differences__are_those_of_the_replay() -> None:
    listed = json.loads((TESTS / "conformance" / "differences.json").read_bytes())
    section = PAGE.partition("## Answers that differ")[2].partition("Besides")[0]

    assert re.findall(r"^- (.*)$", section, re.MULTILINE) == [each["reason"] for each in listed]
