"""The parent outlives a system that has nothing left to give: its children's runs would end with it."""

import subprocess
import time
from types import SimpleNamespace
from typing import Any

import pytest

from trellis_workers.parent import Parent


def test_tend__no_process_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[object] = []

    def refuse(*_: object, **__: object) -> None:
        tried.append(None)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    settings: Any = SimpleNamespace(worker_processes=2)
    parent, now = Parent(settings), time.monotonic()

    parent._tend(now)
    parent._tend(now)

    assert len(tried) == 1
