"""Graphs that tell who runs them, ask the API in their own process, and remember things."""

from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.config import get_store
from langgraph.graph import START, StateGraph
from langgraph_sdk import get_client
from langgraph_sdk.runtime import ServerRuntime
from typing_extensions import TypedDict

client = get_client()


class State(TypedDict, total=False):
    value: Any


def told(state: State, config: RunnableConfig) -> State:
    configurable = config["configurable"]
    user = configurable["langgraph_auth_user"]
    return {
        "value": {
            "user": user and {"identity": user.identity, "vault": user.get("vault")},
            "id": configurable["langgraph_auth_user_id"],
            "permissions": configurable["langgraph_auth_permissions"],
            "headers": {k: v for k, v in configurable.items() if k.startswith("x-")},
        }
    }


async def ask(state: State) -> State:
    """Run another graph by a client made at import, and look at its thread by one made now."""
    thread = await client.threads.create()
    values = await client.runs.wait(thread["thread_id"], "who", input={})
    found = await get_client().threads.get(thread["thread_id"])
    return {"value": {"inner": values["value"]["id"], "status": found["status"]}}


def remember(state: State) -> State:
    """What was remembered before, by whoever shares this memory."""
    store = get_store()
    before = store.get(("notes",), "last")
    store.put(("notes",), "last", {"value": state["value"]})
    return {"value": before and before.value["value"]}


def _graph(name: str, node: Any) -> StateGraph[Any]:
    return StateGraph(State).add_node(name, node).add_edge(START, name)


who = _graph("told", told)
asks = _graph("ask", ask)
remembers = _graph("remember", remember)


def made(runtime: ServerRuntime) -> Any:
    """A factory that makes a graph for its user."""
    name = runtime.user.identity if runtime.user else None
    return _graph("say", lambda state: {"value": name}).compile()
