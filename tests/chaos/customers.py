"""Clients of the official SDK who insist on their answer, and notice when it is not the right one."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

T = TypeVar("T")

#: A call that takes longer hangs.
HANG_SECONDS = 30.0
#: A client whose web is gone, or says that it cannot serve now, asks again after this.
_AGAIN_SECONDS = 0.2

STEPS = ["one", "two", "three"]
VERBS = ("wait", "stream", "join", "poll")


@dataclass(frozen=True)
class Answer:
    """What a customer got."""

    verb: str
    run_id: str
    seconds: float


class Customer:
    """
    Has one conversation: each call is a run of `steps` on the customer's own thread.

    The thread's log grows by three words a run, so that a run that was lost, or counted twice, shows in the answer.
    Not for two threads at once.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self._stack = ExitStack()
        clients = [get_sync_client(url=url, timeout=2 * HANG_SECONDS) for url in urls]
        for client in clients:
            self._stack.enter_context(client)
        self._clients = itertools.cycle(clients)
        self._client = next(self._clients)
        self._stop = threading.Event()
        self._run_id = ""
        self._runs = 0
        self.thread_id = str(uuid.uuid4())
        self.insist(
            lambda sdk: sdk.threads.create(thread_id=self.thread_id, if_exists="do_nothing")
        )

    def close(self) -> None:
        self._stack.close()

    def call(self, verb: str, *, pause: float = 0) -> Answer:
        """One turn of the conversation, by one of the ways to get an answer."""
        started = time.monotonic()
        given = self._turn(pause)
        values = getattr(self, f"_{verb}")(given)
        self._runs += 1
        assert values["log"] == STEPS * self._runs, (verb, self._runs, self._run_id, values)
        return Answer(verb, self._run_id, time.monotonic() - started)

    def leave(self, thread_id: str) -> str:
        """Create a run on a thread that is shared, and do not wait for it. Returns its id."""
        given = {**self._turn(0), "thread_id": thread_id}
        run = self.insist(lambda sdk: sdk.runs.create(**given))
        run_id: str = run["run_id"]
        return run_id

    def insist(self, ask: Callable[[SyncLangGraphClient], T]) -> T:
        """Ask one web after the other until one answers."""
        until = time.monotonic() + 2 * HANG_SECONDS
        while True:
            try:
                return ask(self._client)
            except httpx.HTTPError as error:
                if not _may_pass(error) or time.monotonic() > until:
                    raise
            self._client = next(self._clients)
            self._stop.wait(_AGAIN_SECONDS)

    def _turn(self, pause: float) -> dict[str, Any]:
        """What is sent again until it has been answered: the key makes it one run."""
        return {
            "thread_id": self.thread_id,
            "assistant_id": "steps",
            "input": {"log": [], "pause": pause},
            "multitask_strategy": "enqueue",
            "headers": {"Idempotency-Key": str(uuid.uuid4())},
        }

    def _wait(self, given: dict[str, Any]) -> Any:
        return self.insist(lambda sdk: sdk.runs.wait(**given, on_run_created=self._note))

    def _stream(self, given: dict[str, Any]) -> Any:
        """A client that is cut off before the first event has no id to come back with: it may find the run over."""

        def ask(sdk: SyncLangGraphClient) -> Any:
            parts = sdk.runs.stream(
                **given, stream_mode="values", stream_resumable=True, on_run_created=self._note
            )
            return _last(parts)

        last = self.insist(ask)
        return last.data if last else self._joined()

    def _join(self, given: dict[str, Any]) -> Any:
        self._create(given)
        return self._joined()

    def _joined(self) -> Any:
        return self.insist(lambda sdk: sdk.runs.join(self.thread_id, self._run_id))

    def _poll(self, given: dict[str, Any]) -> Any:
        self._create(given)
        while (status := self._status()) in ("pending", "running"):
            self._stop.wait(_AGAIN_SECONDS)
        assert status == "success", (self._run_id, status)
        return self.insist(lambda sdk: sdk.threads.get(self.thread_id))["values"]

    def _create(self, given: dict[str, Any]) -> None:
        self._note(self.insist(lambda sdk: sdk.runs.create(**given)))

    def _status(self) -> str:
        return self.insist(lambda sdk: sdk.runs.get(self.thread_id, self._run_id))["status"]

    def _note(self, run: Any) -> None:
        self._run_id = run["run_id"]


def _last(parts: Iterable[Any]) -> Any:
    """The last event of a stream. None: there was none."""
    last = None
    for last in parts:
        assert last.event in ("metadata", "values", "gap"), last
    return last


def _may_pass(error: httpx.HTTPError) -> bool:
    """Whether asking again may help: nobody answered, or somebody said that it does."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code in (429, 502, 503, 504)
    return isinstance(error, httpx.TransportError)
