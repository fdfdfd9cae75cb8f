"""Commands of protocol v2, as tests send them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

START = {"assistant_id": "echo", "input": {"value": "hi"}}

Sql = Callable[..., Any]
Send = Callable[..., Any]


@pytest.fixture
def send(client: FlaskClient, thread_id: str) -> Send:
    """Send a command to a thread, and return what it is answered."""

    def send(method: str, params: Any = None, *, to: str = thread_id, n: int = 7) -> Any:
        sent = {"id": n, "method": method, "params": params or {}}
        response = client.post(f"/threads/{to}/commands", json=sent)
        assert response.status_code == 200, response.data
        answer = response.get_json()
        assert answer["id"] == n
        return answer

    return send


def refused(answer: Any) -> tuple[str, str]:
    assert answer["type"] == "error"
    return answer["error"], answer["message"]
