"""An application whose routes can be looked at."""

from __future__ import annotations

import json

import pytest
from flask import Flask

from trellis.api.app import create_app
from trellis.runtime import build
from trellis.settings import Settings


@pytest.fixture
def app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """An application that connects to nothing."""
    manifest = tmp_path_factory.mktemp("project") / "langgraph.json"
    manifest.write_text(json.dumps({"dependencies": ["."], "graphs": {"a": "./a.py:graph"}}))
    return create_app(
        build(
            Settings(
                database_url="postgresql://nowhere/none",
                redis_url="redis://nowhere",
                config_path=manifest,
                dev=True,
            )
        )
    )
