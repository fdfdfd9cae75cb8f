"""An answer is taken by one question."""

from __future__ import annotations

from trellis.db.checkpoints.answers import NO_TASK, RESUME, Answers

HERE = ("thread", "", "checkpoint")


def an_answer() -> Answers:
    answers = Answers()
    answers.note(HERE, NO_TASK, RESUME, "yes")
    return answers


def test_taken_by__a_task_that_has_an_answer_more() -> None:
    answers = an_answer()

    assert answers.taken_by("task", [("__interrupt__", "?"), (RESUME, ["yes"])]) == {HERE}
    assert answers.taken_by("task", [(RESUME, ["yes"])]) == set()


def test_taken_by__a_task_that_says_again_what_it_had() -> None:
    answers = an_answer()
    answers.note(HERE, "task", RESUME, ["an older one"])

    assert answers.taken_by("task", [(RESUME, ["an older one"])]) == set()
    assert answers.taken_by("task", [(RESUME, ["an older one", "yes"])]) == {HERE}


def test_taken_by__a_task_that_asks_nothing() -> None:
    assert an_answer().taken_by("task", [("channel", 1)]) == set()
