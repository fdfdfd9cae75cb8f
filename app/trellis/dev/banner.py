"""What `trellis dev` prints when it is ready: where it is, what it serves, and what to paste."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence

_QUESTION = "Hello! What are you?"


def banner(*, url: str, graph_ids: Sequence[str], data_dir: str, reload: bool) -> str:
    """The text shown when the server accepts requests."""
    first = pick_graph(graph_ids)
    reloads = "on: a change of *.py, langgraph.json or .env restarts web and worker"
    facts = {
        "Docs": f"{url}/docs",
        "Graphs": ", ".join(graph_ids),
        "Data": data_dir,
        "Reload": reloads if reload else "off",
    }
    lines = [f"Trellis is ready: {url}", ""]
    lines += [f"  {name:<8}{value}" for name, value in facts.items()]
    # What is to be pasted starts at the margin: Python takes no indented line.
    lines += ["", "Try it from a shell:", "", curl_line(url, first)]
    lines += ["", "or from Python:", "", sdk_snippet(url, first), ""]
    lines += ["Ctrl-C stops everything; the data is kept for the next start.", ""]
    return "\n".join(lines)


def pick_graph(graph_ids: Sequence[str]) -> str:
    """The graph to show: the one called `agent`, else the first."""
    return "agent" if "agent" in graph_ids else graph_ids[0]


def curl_line(url: str, graph_id: str) -> str:
    """A shell line that runs the graph and prints its answer."""
    body = json.dumps({"assistant_id": graph_id, "input": _input()})
    return f"curl -s {url}/runs/wait -H 'Content-Type: application/json' -d {shlex.quote(body)}"


def sdk_snippet(url: str, graph_id: str) -> str:
    """Python lines that run the graph through langgraph_sdk and print its events."""
    question = json.dumps(_input())
    return "\n".join(
        (
            "from langgraph_sdk import get_sync_client",
            f"client = get_sync_client(url={json.dumps(url)})",
            f"events = client.runs.stream(None, {json.dumps(graph_id)}, input={question})",
            "for event in events: print(event.event, event.data)",
        )
    )


def _input() -> dict[str, list[dict[str, str]]]:
    return {"messages": [{"role": "user", "content": _QUESTION}]}
