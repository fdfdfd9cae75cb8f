from pathlib import Path

import pytest

from trellis.dev.reload import matters

MANIFEST = Path("/home/me/.git/project/langgraph.json")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("graph.py", True),
        ("deep/er/graph.py", True),
        ("langgraph.json", True),
        (".env", True),
        (".env.local", True),
        ("README.md", False),
        ("deep/langgraph.json", False),
        (".trellis/x.py", False),
        (".venv/lib/x.py", False),
        ("node_modules/x/y.py", False),
        ("__pycache__/graph.py", False),
    ],
)
def test_matters(name: str, expected: bool) -> None:
    assert matters(MANIFEST.parent / name, manifest=MANIFEST) is expected
