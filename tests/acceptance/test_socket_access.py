"""Who hears what of a thread over protocol v2, on a server with the operator's own auth and app."""

from collections.abc import Callable, Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from acceptance.sockets import Socket
from acceptance.system import ANSWER_SECONDS, System, running

SITE = Path(__file__).with_name("site") / "langgraph.json"


@pytest.fixture(scope="module")
def owners(new_system: Callable[..., System]) -> Iterator[System]:
    with running(new_system(env={"TRELLIS_CONFIG": str(SITE)})) as system:
        worker = system.start("worker")
        system.start_web()
        worker.wait_until_says("worker.ready")
        yield system


def dial(system: System, thread_id: str, headers: dict[str, str]) -> Any:
    url = f"ws://127.0.0.1:{system.port}/threads/{thread_id}/stream/events"
    return connect(url, proxy=None, additional_headers=headers)


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name}"}


def test_socket__of_nobody(owners: System) -> None:
    with dial(owners, str(uuid4()), {}) as connection, pytest.raises(ConnectionClosed) as closed:
        connection.recv(timeout=ANSWER_SECONDS)

    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4401, "no token")


def test_socket__hears_only_what_is_ones_own(owners: System) -> None:
    thread_id = str(uuid4())
    with (
        dial(owners, thread_id, bearer("alice")) as hers,
        dial(owners, thread_id, bearer("bob")) as early,
    ):
        alice, bob = Socket(hers), Socket(early)
        # There is no such thread yet: nobody knows whose it will be.
        alice.subscribe("lifecycle")
        bob.subscribe("lifecycle")
        assert alice.ask("run.start", assistant_id="who", input={})["type"] == "success"
        assert len(alice.events(2)) == 2
        with dial(owners, thread_id, bearer("bob")) as late:
            latecomer = Socket(late)
            assert latecomer.subscribe("lifecycle")["result"]["replayed_events"] == 0
            refused = latecomer.ask("run.start", assistant_id="who", input={})
            assert refused["message"].startswith("404")
            # The second run is over, so whoever may hear of it has heard by now.
            alice.ask("run.start", assistant_id="who", input={})
            alice.events(2)
            for other in (bob, latecomer):
                other.send({"id": 99, "method": "bogus"})
                assert other.take()["id"] == 99


def test_events__hears_only_what_is_ones_own(owners: System) -> None:
    thread_id = str(uuid4())
    with dial(owners, thread_id, bearer("alice")) as connection:
        alice = Socket(connection)
        alice.subscribe("lifecycle")
        alice.ask("run.start", assistant_id="who", input={})
        alice.events(2)

    body = orjson.dumps({"channels": ["lifecycle"]})
    with closing(HTTPConnection("127.0.0.1", owners.port, timeout=ANSWER_SECONDS)) as connection:
        headers = {"Content-Type": "application/json"} | bearer("bob")
        connection.request("POST", f"/threads/{thread_id}/stream/events", body, headers)
        assert connection.getresponse().readline() == b": heartbeat\r\n"
