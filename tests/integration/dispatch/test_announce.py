"""Hints: what Celery would have written, and never a delay when the broker is down."""

from __future__ import annotations

import base64
import json
import socket
import time

import redis
from celery import Celery
from kombu import Queue

from trellis.dispatch.announce import QUEUE, Announcer, connect, message, task_name

VOLATILE = ("origin", "reply_to", "delivery_tag")


def stable(raw: bytes) -> dict:
    """A broker message without what differs from one to the next."""
    parsed = json.loads(raw)
    for name in VOLATILE:
        parsed["headers"].pop(name, None)
        parsed["properties"].pop(name, None)
    parsed["body"] = json.loads(base64.b64decode(parsed["body"]))
    return parsed


def test_message__equals_celerys(redis_url):
    app = Celery(broker=redis_url)
    app.conf.update(task_serializer="json", task_queues=[Queue(QUEUE)], task_default_queue=QUEUE)
    app.send_task(task_name("echo"), args=("r-1",), task_id="r-1", queue=QUEUE, ignore_result=True)
    client = redis.Redis.from_url(redis_url, protocol=2)

    written = client.rpop(QUEUE)

    assert stable(message("r-1", "echo")) == stable(written)
    client.close()
    app.close()


def test_announce(redis_url):
    client = connect(redis_url, max_connections=2)

    assert Announcer(client, key_prefix="p:")("r-1", "echo")
    assert stable(client.rpop("p:runs"))["headers"]["task"] == "run:echo"
    client.close()


def test_announce__broker_down():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        announce = Announcer(
            connect(f"redis://127.0.0.1:{closed.getsockname()[1]}", max_connections=2)
        )
    started = time.monotonic()

    told = [announce("r-1", "echo") for _ in range(50)]

    assert not any(told)
    assert time.monotonic() - started < 2
