"""Which classes come back from a checkpoint: those that langgraph.json trusts."""

from collections.abc import Callable
from typing import Any

from acceptance.system import System, running


def test_trusted_class__comes_back_in_another_process(new_system: Callable[..., System]) -> None:
    with running(new_system()) as system:
        system.start_web()
        run: dict[str, Any] = {"assistant_id": "trust", "input": {}}
        thread_id = system.new_thread()
        worker = system.start_worker()
        assert system.post(f"/threads/{thread_id}/runs/wait", run)["seen"] == []
        worker.stop()
        system.start_worker()

        assert system.post(f"/threads/{thread_id}/runs/wait", run)["seen"] == ["Listed", "dict"]
        state = system.get(f"/threads/{thread_id}/state")
        assert state["values"]["things"] == [{"n": 1}, {"n": 2}]
