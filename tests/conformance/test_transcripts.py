"""What the official server was asked, asked here: the same statuses, headers and shapes, but for the listed."""

import re
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from acceptance.system import Answer, System, running
from conformance.replay import differences, events_shape, replay, steps

HERE = Path(__file__).parent
#: Requests without credentials, and those of users whom handlers of their own keep apart.
SERVERS = {"transcripts": "langgraph.json", "transcripts/auth": "langgraph.auth.json"}
RECORDED = {folder: sorted(HERE.joinpath(folder).glob("*.jsonl")) for folder in SERVERS}
#: Each with why, and as patterns in which `*` stands for anything.
LISTED = orjson.loads(HERE.joinpath("differences.json").read_bytes())


@pytest.fixture(scope="module")
def found(
    new_database: Callable[[], str],
    new_redis: Callable[[], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[str]]:
    """The differences of every transcript, replayed in order on one server for each folder."""
    differences = {}
    for folder, config in SERVERS.items():
        system = System(
            new_database(),
            new_redis(),
            tmp_path_factory.mktemp("replay"),
            env={"TRELLIS_CONFIG": str(HERE / "graphs" / config), "TRELLIS_STUDIO_AUTH": "1"},
        )
        with running(system):
            worker = system.start("worker")
            system.start_web()
            worker.wait_until_says("worker.ready")
            for path in RECORDED[folder]:
                differences[path.stem] = list(replay(system, steps(path)))
    return differences


def pattern(listed: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, listed.split("*"))))


PATTERNS = {text: pattern(text) for entry in LISTED for text in entry["differences"]}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("transcript", [path.stem for paths in RECORDED.values() for path in paths])
def test_replay(found: dict[str, list[str]], transcript: str) -> None:
    unlisted = [
        text
        for text in found[transcript]
        if not any(each.fullmatch(text) for each in PATTERNS.values())
    ]

    assert unlisted == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("listed", PATTERNS)
def test_differences__are_still_there(found: dict[str, list[str]], listed: str) -> None:
    assert any(PATTERNS[listed].fullmatch(text) for texts in found.values() for text in texts)


STEP = {
    "status": 200,
    "answer_headers": {"content-type": "application/json"},
    "shape": {"": "object", ".id": "id", ".tags": "array", ".tags[]": "string"},
}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, b"{}", ["status 200, here 404"]),
        (200, b'{"id":"0199a202-b217-7163-99f7-2d55527e04ad","tags":["a"]}', []),
        (200, b'{"id":"7","tags":["a"]}', ["body .id: id, here string"]),
        (200, b'{"id":null}', ["body .id: id, here null", "body .tags: array, here absent"]),
    ],
)
def test_differences(status: int, body: bytes, expected: list[str]) -> None:
    answer = Answer(status, {"content-type": "application/json"}, body)

    assert list(differences(STEP, answer)) == expected


def test_differences__of_streams() -> None:
    recorded = events_shape([("values", {"a": 1}, None), ("values", {"a": 2}, None)])
    step = {"status": 200, "shape": recorded}
    body = b'event: values\r\ndata: {"a":"x"}\r\nid: 1-0\r\n\r\n'
    answer = Answer(200, {"content-type": "text/event-stream; charset=utf-8"}, body)

    assert list(differences(step, answer)) == [
        "header content-type: absent, here text/event-stream; charset=utf-8",
        "body events: ['values'], here ['values#']",
        "body values : object, here absent",
        "body values# : absent, here object",
    ]
