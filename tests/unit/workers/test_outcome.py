"""What the end of an attempt means."""

from __future__ import annotations

import orjson

from trellis.domain.runs import RunStatus, ThreadStatus
from trellis.errors import UnknownInterruptError
from trellis_workers import outcome


def test_of_success():
    ended = outcome.of_success(next_nodes=(), interrupts={})

    assert (ended.status, ended.thread_status) == (RunStatus.SUCCESS, ThreadStatus.IDLE)


def test_of_success__paused():
    ended = outcome.of_success(next_nodes=("ask",), interrupts={})

    assert (ended.status, ended.thread_status) == (RunStatus.SUCCESS, ThreadStatus.INTERRUPTED)


def test_of_exception():
    ended = outcome.of_exception(ValueError("boom"))

    assert ended.thread_status == ThreadStatus.ERROR
    assert ended.error == {"error": "ValueError", "message": "boom"}


def test_of_exception__a_refused_answer_leaves_the_thread_as_it_was():
    ended = outcome.of_exception(UnknownInterruptError("no"))

    assert (ended.status, ended.keeps_thread) == (RunStatus.ERROR, True)
    assert ended.error == {"error": "UnknownInterruptError", "message": "no"}
    assert not outcome.of_exception(ValueError("boom")).keeps_thread


def test_of_exception__keeps_where_it_happened():
    try:
        raise ValueError("boom \x00") from KeyError("cause")
    except ValueError as error:
        ended = outcome.of_exception(error)

    assert "KeyError: 'cause'" in ended.traceback
    assert "test_outcome.py" in ended.traceback
    assert ended.traceback.endswith("ValueError: boom \ufffd\n")


def test_of_exception__whose_text_raises():
    class Sly(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    assert outcome.of_exception(Sly()).error == {"error": "Sly", "message": ""}


def test_of_exception__text_that_postgres_cannot_hold():
    error = outcome.of_exception(ValueError("a\x00b\ud800" + "x" * 20_000)).error

    assert error["message"].startswith("a\ufffdb\ufffd")
    assert len(orjson.dumps(error)) < 11_000
