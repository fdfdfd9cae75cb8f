"""Runs and threads are deleted while somebody works on them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from integration.runs.rows import THREAD, rows_of
from trellis.db import cancel, checkpoints
from trellis.db.rounds import Round
from trellis.errors import Fenced


def test_delete_run__fences_its_worker(engine, a_run, claim, save, end, one):
    """Race 25."""
    taken = claim(a_run())
    save(taken, "1")
    with engine.begin() as tx:
        cancel.lock_thread(tx, "default", taken.thread_id)
        assert cancel.delete_run(tx, taken.thread_id, taken.run_id).asked == [taken.run_id]

    assert isinstance(end(taken), Fenced)
    assert one("SELECT count(*) FROM checkpoint") == 0
    assert one(THREAD, t=taken.thread_id) == "idle"


def test_delete_run__waits_for_a_writer(engine, a_run, claim, until_blocked, one):
    """A row written by a round that is under way goes as well."""
    taken = claim(a_run())
    writing = engine.connect()
    Round(writing, [rows_of(taken, "1")], cache=checkpoints.Cache()).execute()

    def delete() -> None:
        with engine.begin() as tx:
            cancel.lock_thread(tx, "default", taken.thread_id)
            cancel.delete_run(tx, taken.thread_id, taken.run_id)

    with ThreadPoolExecutor(1) as pool:
        deleting = pool.submit(delete)
        until_blocked(writing)
        writing.commit()
        writing.close()
        deleting.result(5)

    assert one("SELECT count(*) FROM checkpoint") == 0


def test_delete_run__of_another_thread(engine, a_run, a_thread):
    run_id = a_run()

    with engine.begin() as tx:
        assert cancel.delete_run(tx, a_thread(), run_id) is None


def test_delete_thread__while_a_run_is_active(engine, a_run, claim, save, end, one):
    """Race 25."""
    taken = claim(a_run())
    save(taken, "1")
    a_run(taken.thread_id)
    with engine.begin() as tx:
        cancel.lock_thread(tx, "default", taken.thread_id)
        assert cancel.delete_threads(tx, [taken.thread_id]).asked == [taken.run_id]

    assert isinstance(end(taken), Fenced)
    assert [one(f"SELECT count(*) FROM {t}") for t in ("thread", "run", "checkpoint")] == [0, 0, 0]
