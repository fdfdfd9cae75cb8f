"""`trellis demo`: an agent that streams, a human's approval, and a thread's history, told in a terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trellis.dev import instance
from trellis.dev.account import make_passage
from trellis.dev.command import choose_data_dir, demo_config
from trellis.dev.process import kill_session, spawn, wait_for_exit
from trellis.dev.server import tail
from trellis.errors import ConfigError, TrellisError

if TYPE_CHECKING:
    from langgraph_sdk.client import SyncLangGraphClient
    from langgraph_sdk.schema import ThreadState

_WIDTH = 76
_LABEL = 8

#: The first start makes a database; a slow disk may take its time.
_START_SECONDS = 60.0

_QUESTIONS = ("What happens to you in a crash?", "And what is (17 + 4) * 2?")
_REFUND: dict[str, Any] = {"order": "A-1042", "amount": 49.9, "reason": "arrived broken"}
_ANSWER: dict[str, Any] = {"approved": True, "note": "with our apologies"}


@click.command()
def demo() -> None:
    """
    Show a server at work: streamed tokens, an approval, a thread's history.

    Uses the `trellis dev` that serves the demo graphs here, or starts one and stops it again.
    """
    import httpx
    from langgraph_sdk import get_sync_client

    try:
        with _server(choose_data_dir(None, config=None, here=Path.cwd())) as url:
            _tell(get_sync_client(url=url), url)
    except (TrellisError, OSError, httpx.HTTPError) as error:
        raise click.ClickException(f"The demo failed: {error}") from error


@contextlib.contextmanager
def _server(data_dir: Path) -> Iterator[str]:
    """The URL of a server with the demo graphs; one started for this is stopped afterwards."""
    config = demo_config()
    found = instance.running(data_dir)
    if found is not None and found.config == str(config):
        yield found.url
        return
    if found is not None:
        # That one serves other graphs, and has the directory.
        data_dir = data_dir / "demo"
    with _started(config, data_dir) as url:
        yield url


@contextlib.contextmanager
def _started(config: Path, data_dir: Path) -> Iterator[str]:
    _note("Starting a server ...")
    make_passage(data_dir)
    log = data_dir / "demo.log"
    command = [sys.executable, "-P", "-m", "trellis.cli", "dev", "--no-reload"]
    with log.open("wb") as output:
        process = spawn(
            [*command, "--config", config, "--data-dir", data_dir],
            dies_with=signal.SIGTERM,
            output=output,
        )
    try:
        found = instance.wait_until_running(
            data_dir, seconds=_START_SECONDS, alive=lambda: process.poll() is None
        )
        if found is None:
            raise ConfigError(f"the server did not start. The end of {log}:\n{tail(log)}")
        yield found.url
    finally:
        _note("Stopping the server ...")
        process.terminate()
        if not wait_for_exit(process, 30):
            kill_session(process)


def _tell(client: SyncLangGraphClient, url: str) -> None:
    _line("")
    _line(click.style(f"Trellis at {url}", bold=True))
    _chapter("1. An agent streams its answer, token by token")
    _chat(client)
    _chapter("2. A run stops to ask a human, and goes on with the answer")
    thread_id = _approve(client)
    _chapter("3. Every step of it was kept: the thread's history")
    _show_history(client, thread_id)
    _line("")


def _chat(client: SyncLangGraphClient) -> None:
    thread_id = client.threads.create()["thread_id"]
    for question in _QUESTIONS:
        _say("you", question)
        said: dict[str, Any] = {"messages": [{"role": "user", "content": question}]}
        parts = client.runs.stream(thread_id, "agent", input=said, stream_mode="messages-tuple")
        if _print_tokens(_messages(parts)) < 2:
            raise ConfigError("the agent's answer did not arrive in tokens.")


def _messages(parts: Iterator[Any]) -> Iterator[dict[str, Any]]:
    """The message chunks of a stream. :raises ConfigError: the run failed."""
    for part in parts:
        if part.event == "error":
            raise ConfigError(f"the agent's run ended with {part.data}")
        if part.event == "messages":
            yield part.data[0]


def _print_tokens(messages: Iterator[dict[str, Any]]) -> int:
    """Print tokens as they come, each message in a paragraph of its own. Returns how many came."""
    speaker, column, count = None, 0, 0
    for message in messages:
        if message["id"] != speaker:
            _write("\n" if speaker else "")
            _write(_label("tool" if message["type"] == "tool" else "agent"))
            speaker, column = message["id"], _LABEL
        column = _print_token(str(message["content"]), column=column)
        count += bool(message["content"])
        for call in message.get("tool_calls") or []:
            arguments = ", ".join(str(value) for value in call["args"].values())
            _write(f"\n{_label('calls')}{call['name']}({arguments})")
    _line("")
    return count


def _print_token(token: str, *, column: int) -> int:
    """Print a token, on the next line when it does not fit on this one. Returns the new column."""
    if column > _LABEL and column + len(token.rstrip()) > _WIDTH:
        _write("\n" + " " * _LABEL)
        column = _LABEL
    _write(token)
    return column + len(token)


def _approve(client: SyncLangGraphClient) -> str:
    thread_id = client.threads.create()["thread_id"]
    stopped = _values(client.runs.wait(thread_id, "approval", input=_REFUND))
    interrupts = stopped.get("__interrupt__") or []
    if not interrupts:
        raise ConfigError(f"the approval did not stop to ask; it returned {stopped}")
    _say("asks", interrupts[0]["value"]["question"])
    status = client.threads.get(thread_id)["status"]
    _say("", f"(thread {thread_id} is {status}; no worker waits for it)", dim=True)
    _say("you", f"approved, {_ANSWER['note']}")
    done = _values(client.runs.wait(thread_id, "approval", command={"resume": _ANSWER}))
    if "result" not in done:
        raise ConfigError(f"the approval did not finish; it returned {done}")
    _say("result", done["result"])
    return thread_id


def _values(answer: object) -> dict[str, Any]:
    """The state a run ended with. :raises ConfigError: it ended with an error."""
    if not isinstance(answer, dict) or "__error__" in answer:
        raise ConfigError(f"the approval's run ended with {answer}")
    return answer


def _show_history(client: SyncLangGraphClient, thread_id: str) -> None:
    states = client.threads.get_history(thread_id)
    if not states:
        raise ConfigError("the thread has no history.")
    for state in reversed(states):
        _say(f"step {(state['metadata'] or {}).get('step')}", _what_follows(state))
        known = ", ".join(state["values"]) or "nothing yet"
        _say("", f"{state['checkpoint']['checkpoint_id']}  knows {known}", dim=True)


def _what_follows(state: ThreadState) -> str:
    if not state["next"]:
        return "the end"
    if "__start__" in state["next"]:
        return "the input"
    waited = any(task.get("interrupts") for task in state["tasks"])
    return f"then {', '.join(state['next'])}{' (asked, and waited)' if waited else ''}"


def _chapter(title: str) -> None:
    _line("")
    _line(click.style(title, bold=True))
    _line("")


def _say(who: str, text: str, *, dim: bool = False) -> None:
    _line(_label(who) + (click.style(text, dim=True) if dim else text))


def _label(who: str) -> str:
    return click.style(f"{who:<{_LABEL}}", fg="cyan")


def _note(text: str) -> None:
    _line(click.style(text, dim=True))


def _line(text: str) -> None:
    _write(f"{text}\n")


def _write(text: str) -> None:
    """Print without waiting for the line's end; plain where colours are unwanted or not shown."""
    click.echo(text, nl=False, color=False if "NO_COLOR" in os.environ else None)
    sys.stdout.flush()
