"""Dead letters: kept with the end of a run that failed, deleted with its thread or in time."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from trellis.cli import cli, main
from trellis.db import cancel, dead_letters, runs
from trellis.db.vault import Vault, guarded
from trellis.domain.encryption import Encryption
from trellis.domain.ids import new_id
from trellis.domain.runs import Outcome, RunStatus, ThreadStatus, Ward

ERROR = Outcome(
    status=RunStatus.ERROR,
    thread_status=ThreadStatus.ERROR,
    error={"error": "ValueError", "message": "boom"},
    traceback="Traceback …",
)
COUNT = "SELECT count(*) FROM dead_letter"


def test_finish__keeps_what_failed(engine, a_run, claim, finish):
    taken = claim(a_run(kwargs={"input": 7, "config": {"tags": ["t"]}}))

    finish(taken, ERROR)

    with engine.connect() as tx:
        letter = tx.execute(text("SELECT * FROM dead_letter")).mappings().one()
        run = tx.execute(text("SELECT assistant_id, error, attempt FROM run")).one()
    assert letter["kwargs"] == {"input": 7, "config": {"tags": ["t"]}}
    assert (letter["reason"], letter["traceback"]) == (dead_letters.RAISED, "Traceback …")
    assert (letter["assistant_id"], letter["last_error"], letter["attempts"]) == tuple(run)


@pytest.mark.parametrize("status", [RunStatus.SUCCESS, RunStatus.TIMEOUT])
def test_finish__keeps_nothing_else(a_run, claim, finish, one, status):
    finish(claim(a_run()), replace(ERROR, status=status, error=None))

    assert one(COUNT) == 0


def test_finish__cancelled_while_it_failed(engine, a_run, claim, finish, one):
    taken = claim(a_run())
    with engine.begin() as tx:
        tx.execute(text("UPDATE run SET cancel_action = 'interrupt', cancel_requested_at = now()"))

    finish(taken, ERROR)

    assert one(COUNT) == 0


def test_delete_thread(engine, a_run, claim, finish, one):
    taken, other = claim(a_run()), claim(a_run())
    for each in (taken, other):
        finish(each, ERROR)

    with engine.begin() as tx:
        cancel.delete_threads(tx, [taken.thread_id])

    assert one("SELECT run_id::text FROM dead_letter") == other.run_id


def test_delete_run(engine, a_thread, a_run, claim, finish, one):
    thread_id = a_thread()
    taken = claim(a_run(thread_id))
    finish(taken, ERROR)
    other = claim(a_run(thread_id))
    finish(other, ERROR)

    with engine.begin() as tx:
        cancel.delete_run(tx, thread_id, taken.run_id)

    assert one("SELECT run_id::text FROM dead_letter") == other.run_id


def test_sweep(engine, a_run, claim, finish, one):
    for _ in range(2):
        finish(claim(a_run()), ERROR)
    with engine.begin() as tx:
        tx.execute(
            text(
                "UPDATE dead_letter SET created_at = now() - interval '31 days'"
                " WHERE run_id = (SELECT min(run_id::text)::uuid FROM dead_letter)"
            )
        )

    with engine.begin() as tx:
        assert dead_letters.sweep(tx, limit=10) == 1

    assert one(COUNT) == 1


KEY, OTHER_KEY = "k" * 32, "o" * 32


@pytest.fixture
def asked(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """What `trellis dead-letters` prints, in a project whose graphs it does not import."""
    (tmp_path / "langgraph.json").write_text('{"graphs": {"echo": "./echo.py:graph"}}')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URI", database_url)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")  # it is not asked

    def ask(*options: object, key: str | None = None) -> list[dict[str, Any]]:
        arguments = ["dead-letters", *map(str, options)]
        done = CliRunner(env={"LANGGRAPH_AES_KEY": key}).invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    return ask


def test_command(asked, a_run, claim, finish):
    taken = claim(a_run(kwargs={"input": 7}))
    finish(taken, ERROR)

    (letter,) = asked()

    assert letter.pop("created_at")
    assert letter.pop("assistant_id")
    assert letter == {
        "run_id": taken.run_id,
        "tenant_id": "default",
        "thread_id": taken.thread_id,
        "graph_id": "echo",
        "reason": dead_letters.RAISED,
        "attempts": 1,
        "last_error": ERROR.error,
        "traceback": "Traceback …",
        "kwargs": {"input": 7},
    }


def test_command__of_a_graph_or_a_run(asked, a_run, claim, finish):
    first, second, third = (
        claim(a_run(graph_id=graph_id)) for graph_id in ("agent", "echo", "agent")
    )
    for each in (first, second, third):
        finish(each, ERROR)

    def shown(*options: object) -> list[str]:
        return [letter["run_id"] for letter in asked(*options)]

    assert shown() == [third.run_id, second.run_id, first.run_id]
    assert shown("--limit", 1) == [third.run_id]
    assert shown("--graph", "agent") == [third.run_id, first.run_id]
    assert shown("--run", first.run_id) == [first.run_id]
    assert shown("--graph", "echo", "--run", first.run_id) == []


def test_command__encrypted(engine, asked, defaults, one):
    sealing = guarded(engine, Vault(Encryption(keys=(KEY.encode(),))))
    run_id = new_id()
    row = defaults | {"run_id": run_id, "thread_id": new_id(), "assistant_id": new_id()}
    with sealing.begin() as tx:
        runs.enqueue_with_thread(tx, row, temporary=False)
        (taken,), _ = runs.claim(
            tx, {run_id: new_id()}, owner="test", lease_seconds=15.0, ward=Ward.OPEN
        )
        assert runs.finish(tx, [(taken.claim, ERROR)])
    assert "boom" not in str(one("SELECT row_to_json(l)::text FROM dead_letter AS l"))

    (letter,) = asked(key=KEY)
    (unread,) = asked(key=OTHER_KEY)

    read = letter["kwargs"], letter["last_error"], letter["traceback"]
    assert read == (defaults["kwargs"], ERROR.error, ERROR.traceback)
    assert unread["run_id"] == run_id
    for field in ("kwargs", "last_error", "traceback"):
        assert "which this process does not have" in unread[field]["unreadable"]


@pytest.mark.parametrize("value", ["x", "", "123"])
def test_command__not_the_id_of_a_run(value):
    refused = CliRunner().invoke(cli, ["dead-letters", "--run", value])

    assert refused.exit_code == 2
    assert "is not a valid UUID" in refused.output


def test_command__no_database(asked, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URI", "postgresql://nobody@127.0.0.1:1/none")
    monkeypatch.setattr("sys.argv", ["trellis", "dead-letters"])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("trellis: The database cannot be asked: ")
