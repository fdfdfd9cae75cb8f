"""Delivery to a real receiver: at least once, once by one of several, again after a failure."""

from __future__ import annotations

import base64
import hmac
import http.client
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.receiver import Receiver, receiving
from trellis.dev.process import poll_until
from trellis.domain.runs import Outcome, RunStatus
from trellis.domain.webhooks import Policy, Webhooks
from trellis_workers import webhooks as sender
from trellis_workers.maintenance.deliverer import Deliverer, pause_seconds

#: For `localhost`, self-signed, with its key.
CERTIFICATE = Path(__file__).with_name("localhost.pem")
LOCAL = Webhooks(policy=Policy(disable_loopback=False), headers={"X-Ours": "yes"})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def end(a_run, claim, finish) -> Callable[..., str]:
    """End a run that has this webhook."""

    def do(url: str, **outcome: Any) -> str:
        taken = claim(a_run(kwargs={"input": 1, "webhook": url, "temporary": False}))
        finish(taken, Outcome(**{"status": RunStatus.SUCCESS, **outcome}))
        return str(taken.run_id)

    return do


@pytest.fixture
def deliver(engine: Engine) -> Iterator[Callable[..., Deliverer]]:
    """Start a deliverer that tries again at once."""
    with ExitStack() as stack:

        def start(webhooks: Webhooks = LOCAL, pauses: int = 5) -> Deliverer:
            deliverer = Deliverer(
                engine, webhooks, pause=lambda attempt: 0.0 if attempt < pauses else None
            )
            stack.callback(deliverer.close)
            deliverer.wake()
            return deliverer

        yield start


def signed(got: Any, key: bytes) -> str:
    """What the receiver computes from what it got, as Standard Webhooks tells it to."""
    names = "webhook-id", "webhook-timestamp"
    content = b".".join([*(got.headers[name].encode() for name in names), got.raw])
    return "v1," + base64.b64encode(hmac.new(key, content, "sha256").digest()).decode()


def settled(one: Callable[..., Any]) -> bool:
    open_rows = (
        "SELECT count(*) FROM webhook_outbox WHERE delivered_at IS NULL AND given_up_at IS NULL"
    )
    return poll_until(lambda: one(open_rows) == 0, seconds=20, every=0.02)


def test_deliver(receiver, end, deliver, one) -> None:
    run_id = end(receiver.url)

    deliver()

    assert settled(one)
    [got] = receiver.got
    assert got.path == "/hook"
    assert got.headers["webhook-id"] == run_id
    assert got.headers["content-type"] == "application/json"
    assert got.headers["x-ours"] == "yes"
    assert got.headers["host"] == receiver.url.split("/")[2]
    assert (got.body["run_id"], got.body["status"], got.body["values"]) == (run_id, "success", None)
    assert "error" not in got.body
    assert got.body["webhook_sent_at"] >= got.body["run_ended_at"] > got.body["run_started_at"]


def test_deliver__error(receiver, end, deliver, one) -> None:
    error = {"error": "ValueError", "message": "boom"}
    end(receiver.url, status=RunStatus.ERROR, error=error)

    deliver()

    assert settled(one)
    assert (receiver.got[0].body["status"], receiver.got[0].body["error"]) == ("error", error)


def test_deliver__again_until_it_is_taken(receiver, end, deliver, one) -> None:
    receiver.statuses = deque([500, 302, 429])
    run_id = end(receiver.url)

    deliver()

    assert settled(one)
    assert [each.headers["webhook-id"] for each in receiver.got] == [run_id] * 4
    assert {each.path for each in receiver.got} == {"/hook"}
    assert len({str({**each.body, "webhook_sent_at": 0}) for each in receiver.got}) == 1
    assert one("SELECT attempt FROM webhook_outbox WHERE delivered_at IS NOT NULL") == 4


def test_deliver__given_up(receiver, end, deliver, one) -> None:
    receiver.statuses = deque([500] * 9)
    end(receiver.url)

    deliver(pauses=3)

    assert settled(one)
    assert len(receiver.got) == 3
    assert one("SELECT last_error FROM webhook_outbox WHERE given_up_at IS NOT NULL") == (
        "Refused: HTTP status 500"
    )


def test_deliver__the_receiver_is_gone(receiver, end, deliver, one) -> None:
    receiver.statuses = deque([500, 410])
    end(receiver.url)

    deliver()

    assert settled(one)
    assert len(receiver.got) == 2
    assert one("SELECT last_error FROM webhook_outbox WHERE given_up_at IS NOT NULL") == (
        "Refused: HTTP status 410"
    )


@pytest.mark.parametrize(
    ("asked", "low", "high"), [("3600", 3500, 3600), ("9" * 400, 86_300, 86_400), ("soon", -60, 60)]
)
def test_deliver__the_receiver_asks_for_time(
    receiver, end, deliver, one, asked: str, low: int, high: int
) -> None:
    receiver.statuses = deque([503])
    receiver.headers = {"Retry-After": asked}
    end(receiver.url)

    deliver()

    noted = "SELECT jsonb_array_length(log) FROM webhook_outbox"
    assert poll_until(lambda: one(noted) >= 1, seconds=20, every=0.02)
    left = "SELECT extract(epoch FROM next_attempt_at - clock_timestamp()) FROM webhook_outbox"
    assert low <= one(left) <= high


def test_deliver__signed_with_every_secret(receiver, end, deliver, one) -> None:
    old, new = b"o" * 24, b"n" * 32
    receiver.statuses = deque([500])
    end(receiver.url)

    deliver(replace(LOCAL, secrets=(old, new)))

    assert settled(one)
    assert len(receiver.got) == 2
    for got in receiver.got:
        assert got.headers["webhook-signature"] == f"{signed(got, old)} {signed(got, new)}"


def test_deliver__not_signed_without_a_secret(receiver, end, deliver, one) -> None:
    end(receiver.url)

    deliver()

    assert settled(one)
    assert "webhook-signature" not in receiver.got[0].headers


def test_deliver__some_fields(receiver, end, deliver, one) -> None:
    end(receiver.url)

    deliver(replace(LOCAL, fields=("status", "run_id")))

    assert settled(one)
    assert list(receiver.got[0].body) == ["run_id", "status"]


def test_deliver__disabled(receiver, end, deliver, one) -> None:
    """What was in the outbox before stays there, untouched."""
    end(receiver.url)

    deliver(replace(LOCAL, disabled=True)).close()

    assert one("SELECT attempt FROM webhook_outbox") == 0
    assert receiver.got == []


def test_deliver__is_logged(receiver, end, deliver, one) -> None:
    receiver.statuses = deque([500, 404])
    end(receiver.url)

    deliver()

    assert settled(one)
    log = one("SELECT log FROM webhook_outbox")
    assert [(each["attempt"], each["error"]) for each in log] == [
        (1, "Refused: HTTP status 500"),
        (2, "Refused: HTTP status 404"),
        (3, None),
    ]
    assert [each["at"] for each in log] == [got.body["webhook_sent_at"] for got in receiver.got]


def test_deliver__several_deliverers_send_each_once(receiver, end, deliver, one) -> None:
    ids = {end(receiver.url) for _ in range(30)}

    for _ in range(3):
        deliver()

    assert settled(one)
    assert len(receiver.got) == 30
    assert {each.body["run_id"] for each in receiver.got} == ids


def test_deliver__a_slow_receiver_holds_up_nobody(receiver, end, deliver, one) -> None:
    with receiving() as slow:
        slow.hold = threading.Event()
        end(slow.url)
        end(receiver.url)

        deliver()

        assert poll_until(lambda: bool(receiver.got and slow.got), seconds=10)
        slow.hold.set()
        assert settled(one)


def test_deliver__nobody_is_there(end, deliver, one) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
    end(f"http://127.0.0.1:{port}/")

    deliver(pauses=2)

    assert settled(one)
    assert "refused" in one("SELECT last_error FROM webhook_outbox").lower()


def test_deliver__the_host_has_come_to_mean_another(receiver, end, deliver, one) -> None:
    """DNS rebinding between creation and delivery: what counts is the address at delivery."""
    end(receiver.url.replace("127.0.0.1", "localhost"))

    deliver(Webhooks(), pauses=2)

    assert settled(one)
    assert receiver.got == []
    assert "loopback IP range" in one("SELECT last_error FROM webhook_outbox")


def test_send__connects_to_the_address_that_was_judged(
    receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second look into the DNS would go elsewhere; there is none."""
    looks: list[str] = []
    port = int(receiver.url.split(":")[2].split("/")[0])

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        looks.append(host)
        address = "127.0.0.1" if looks.count("rebound.example") == 1 else "127.0.0.2"
        found = address if host == "rebound.example" else host
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (found, port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    sender.send(LOCAL, url=f"http://rebound.example:{port}/hook", run_id="r", body=b"{}", at=0)

    assert looks.count("rebound.example") == 1
    assert receiver.got[0].headers["host"] == f"rebound.example:{port}"


@contextmanager
def dripping() -> Iterator[str]:
    """A receiver that sends its answer byte by byte, for ever."""
    stop = threading.Event()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:

        def drip() -> None:
            channel, _ = server.accept()
            with closing(channel):
                while not stop.wait(0.02):
                    try:
                        channel.sendall(b" ")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        stop.set()
        thread.join()


def test_send__the_answer_takes_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sender, "TOTAL_SECONDS", 3.3)
    started = time.monotonic()

    with dripping() as url, pytest.raises((OSError, http.client.HTTPException)):
        sender.send(LOCAL, url=url, run_id="r", body=b"{}", at=0)
    assert time.monotonic() - started < 3


def test_send__tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The certificate must be of the name in the URL, although the connection goes to an address."""
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(CERTIFICATE)
    with receiving(tls=server) as receiver:
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            sender.send(LOCAL, url=receiver.url, run_id="r", body=b"{}", at=0)

        monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
        sender.send(LOCAL, url=receiver.url, run_id="r", body=b"{}", at=0)
        url = receiver.url.replace("localhost", "127.0.0.1")
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            sender.send(LOCAL, url=url, run_id="r", body=b"{}", at=0)

    assert [got.headers["webhook-id"] for got in receiver.got] == ["r"]


def test_send__ignores_proxies_of_the_environment(receiver, monkeypatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")

    sender.send(LOCAL, url=receiver.url, run_id="r", body=b"{}", at=0)

    assert len(receiver.got) == 1


def test_pause_seconds() -> None:
    assert 0.75 <= (pause_seconds(1) or 0) <= 1.25
    assert 0.75 * 2**9 <= (pause_seconds(10) or 0) <= 1.25 * 2**9
    assert 64_800 <= (pause_seconds(19) or 0) <= 108_000
    assert pause_seconds(20) is None


def test_deliver__the_values_cannot_be_read(engine, receiver, end, deliver, one) -> None:
    """A row that nobody can decode must not be tried for ever without saying so."""
    run_id = end(receiver.url)
    with engine.begin() as tx:
        tx.exec_driver_sql(
            "INSERT INTO checkpoint (thread_id, checkpoint_id, run_id, body)"
            " SELECT thread_id, '1', run_id, 'x' FROM run WHERE run_id = %(r)s::uuid",
            {"r": run_id},
        )

    deliver(pauses=2)

    assert settled(one)
    assert "unknown encoding" in one("SELECT last_error FROM webhook_outbox")
