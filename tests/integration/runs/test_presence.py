"""Clients whose leaving cancels their run: vouched for by their web process, missed when it is gone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from trellis.db import presence as rows
from trellis.dev.process import poll_until
from trellis.stream.presence import Presence
from trellis_workers.maintenance.leaver import Leaver

COUNT = "SELECT count(*) FROM presence"


@pytest.fixture
def presence(engine):
    presence = Presence(engine)
    yield presence
    presence.close()


@pytest.fixture
def leaver(engine) -> Callable[..., Leaver]:
    def make(patience: float = 0) -> Leaver:
        return Leaver(
            engine, lambda _: True, lambda *_: True, lambda _: None, patience_seconds=patience
        )

    return make


@pytest.fixture
def absent(engine) -> Callable[[str], None]:
    """A client whose web process is gone."""

    def make(run_id: str) -> None:
        with engine.begin() as tx:
            rows.keep(tx, [run_id], seconds=-1)

    return make


def wish(one, run_id: str) -> object:
    return one("SELECT cancel_action FROM run WHERE run_id = :r", r=run_id)


def test_presence__while_the_client_is_there(presence, a_run, claim, one):
    taken = claim(a_run())

    with presence.of(taken.run_id):
        assert poll_until(lambda: one(COUNT) == 1, seconds=10)
        assert one("SELECT until > clock_timestamp() FROM presence")
    assert poll_until(lambda: one(COUNT) == 0, seconds=10)


def test_presence__is_said_again(presence, engine, a_run, one, monkeypatch):
    monkeypatch.setattr("trellis.stream.presence._EVERY_SECONDS", 0.05)
    run_id = a_run()

    with presence.of(run_id):
        assert poll_until(lambda: one(COUNT) == 1, seconds=10)
        with engine.begin() as tx:
            rows.forget(tx, [run_id])
        assert poll_until(lambda: one(COUNT) == 1, seconds=10)


def test_presence__of_two_clients(presence, a_run, one):
    run_id, other = a_run(), a_run()

    with presence.of(run_id):
        with presence.of(run_id):
            pass
        with presence.of(other):
            assert poll_until(lambda: one(COUNT) == 2, seconds=10)


def test_presence__the_process_ends(engine, a_run, one):
    """Who is cut off has not left."""
    presence = Presence(engine)
    body = presence.of(a_run())
    body.__enter__()
    assert poll_until(lambda: one(COUNT) == 1, seconds=10)

    presence.close()

    assert one(COUNT) == 0


def test_forgive(presence, a_run, absent, one):
    run_id = a_run()
    absent(run_id)

    presence.forgive(run_id)

    assert poll_until(lambda: one(COUNT) == 0, seconds=10)


def test_leaver__running(a_run, claim, absent, leaver, one):
    taken = claim(a_run())
    absent(taken.run_id)

    assert leaver()() == 1

    assert wish(one, taken.run_id) == "interrupt"
    assert one(COUNT) == 0


def test_leaver__pending(a_run, absent, leaver, one):
    absent(a_run())

    assert leaver()() == 1

    assert one("SELECT status FROM run") == "interrupted"


def test_leaver__somebody_is_there(presence, a_run, claim, leaver, one):
    taken = claim(a_run())
    with presence.of(taken.run_id):
        assert poll_until(lambda: one(COUNT) == 1, seconds=10)

        assert leaver()() == 0

    assert wish(one, taken.run_id) is None


def test_leaver__over(a_run, claim, finish, absent, leaver, one):
    taken = claim(a_run())
    absent(taken.run_id)
    finish(taken)

    leaver()()

    assert one("SELECT status FROM run") == "success"
    assert one(COUNT) == 0


def test_leaver__is_patient(a_run, claim, absent, leaver, one):
    """The web processes may only just have their database back."""
    taken = claim(a_run())
    absent(taken.run_id)
    look = leaver(patience=60)

    assert (look(), look()) == (0, 0)

    assert wish(one, taken.run_id) is None


def test_leaver__who_came_back_and_left_again_is_waited_for_anew(engine, a_run, absent, leaver):
    run_id = a_run()
    absent(run_id)
    look = leaver(patience=1e-9)
    look()
    absent(run_id)

    assert look() == 0
    assert look() == 1


def test_leaver__a_look_that_fails_begins_anew(engine, a_run, absent, leaver):
    absent(a_run())
    look = leaver(patience=1e-9)
    look()
    with engine.begin() as tx:
        tx.execute(text("ALTER TABLE presence RENAME TO gone"))
    with pytest.raises(SQLAlchemyError):
        look()
    with engine.begin() as tx:
        tx.execute(text("ALTER TABLE gone RENAME TO presence"))

    assert look() == 0
    assert look() == 1


def test_leaver__a_thread_that_is_locked_holds_up_no_other(engine, a_run, absent, leaver, one):
    locked, free = a_run(), a_run()
    absent(locked)
    absent(free)
    look = leaver()
    with engine.begin() as tx:
        tx.execute(
            text(
                "SELECT 1 FROM thread WHERE thread_id = (SELECT thread_id FROM run WHERE run_id = :r)"
                " FOR UPDATE"
            ),
            {"r": locked},
        )
        look()
        assert one("SELECT status FROM run WHERE run_id = :r", r=free) == "interrupted"

    look()

    assert one("SELECT status FROM run WHERE run_id = :r", r=locked) == "interrupted"


def test_cancel_abandoned__who_came_back_in_time(engine, a_run, absent, one):
    run_id = a_run()
    absent(run_id)
    with engine.begin() as tx:
        [row] = rows.absent(tx)
        rows.keep(tx, [run_id], seconds=60)

    with engine.begin() as tx:
        assert not rows.cancel_abandoned(tx, row).ended

    assert one("SELECT status FROM run") == "pending"
