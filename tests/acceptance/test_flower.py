"""Flower shows runs by graph, with the run id as task id; and it is closed by default."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from acceptance.system import System, wait_for
from trellis.dev.process import any_port

LOGIN = "someone:a secret"


@pytest.fixture(scope="module")
def flower(server: System) -> Iterator[System]:
    """Flower on the server's broker. Its URL is the system's."""
    flower = replace(server, port=any_port(), processes=[])
    try:
        process = flower.start("flower", TRELLIS_FLOWER_BASIC_AUTH=LOGIN)
        process.wait_until(lambda: answers(flower), what="answering")
        yield flower
    finally:
        flower.kill()


def answers(flower: System) -> bool:
    try:
        return flower.request("GET", "/api/tasks").status == 401
    except OSError:
        return False


def tasks(flower: System, login: str = LOGIN) -> Any:
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    return flower.request("GET", "/api/tasks?limit=1000", headers=headers)


def test_tasks__are_runs(server: System, flower: System) -> None:
    body = {"assistant_id": "compiled", "input": {"said": []}}

    def seen() -> Any:
        # Flower hears events from when it has subscribed on, which nothing tells.
        thread_id = server.new_thread()
        server.post(f"/threads/{thread_id}/runs/wait", body)
        [run] = server.get(f"/threads/{thread_id}/runs")
        return tasks(flower).json().get(run["run_id"])

    task = wait_for(seen, what="a run in Flower")

    assert task["name"] == "run:compiled"
    assert task["uuid"] in task["args"]


@pytest.mark.parametrize("login", ["someone:wrong", "", "someone:"])
def test_tasks__are_not_for_strangers(flower: System, login: str) -> None:
    assert flower.request("GET", "/api/tasks").status == 401
    assert tasks(flower, login).status == 401
    assert flower.request("GET", "/").status == 401
    assert flower.request("POST", "/api/worker/shutdown/x").status == 401


def test_start__refuses_without_a_login(server: System) -> None:
    flower = replace(server, port=any_port(), processes=[]).start("flower")

    assert flower.ends() == 1
    assert "TRELLIS_FLOWER_BASIC_AUTH" in flower.said()
