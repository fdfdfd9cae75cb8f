"""A client of protocol v2 over a WebSocket."""

from typing import Any

import orjson
from websockets.sync.client import ClientConnection

from acceptance.system import ANSWER_SECONDS

ALL = ["values", "lifecycle", "custom", "updates", "tasks", "input", "messages", "tools"]


class Socket:
    """A client's connection."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self._last_id = 0
        self._events: list[Any] = []  #: that came before an answer

    def send(self, frame: Any) -> None:
        self.connection.send(frame if isinstance(frame, str) else orjson.dumps(frame).decode())

    def take(self) -> Any:
        return orjson.loads(self.connection.recv(timeout=ANSWER_SECONDS))

    def events(self, count: int) -> list[Any]:
        while len(self._events) < count:
            frame = self.take()
            assert frame["type"] == "event", frame
            self._events.append(frame)
        found, self._events = self._events[:count], self._events[count:]
        return found

    def ask(self, method: str, **params: Any) -> Any:
        """The answer to a command."""
        self._last_id += 1
        self.send({"id": self._last_id, "method": method, "params": params})
        while (frame := self.take())["type"] == "event":
            self._events.append(frame)
        assert frame["id"] == self._last_id, frame
        return frame

    def subscribe(self, *channels: str, **fields: Any) -> Any:
        return self.ask("subscription.subscribe", channels=list(channels) or ALL, **fields)
