from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from trellis.errors import ConfigError
from trellis.graphs import manifest as manifests
from trellis.graphs.manifest import GraphSpec


def written(folder: Path, content: Any) -> Path:
    file = folder / "langgraph.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_load(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    file = written(
        tmp_path,
        {
            "dependencies": [".", "./lib", "langchain_openai"],
            "graphs": {
                "a": "./a.py:graph",
                "b": "pkg.sub:make",
                "c": {"path": "c.py:g", "description": "C"},
            },
            "env": {"KEY": "value", "N": 3, "DEBUG": True},
            "store": {"ttl": {"default_ttl": 3}},
        },
    )

    loaded = manifests.load(file)

    assert loaded.root == tmp_path
    assert loaded.graphs == {
        "a": GraphSpec(graph_id="a", target="./a.py:graph"),
        "b": GraphSpec(graph_id="b", target="pkg.sub:make"),
        "c": GraphSpec(graph_id="c", target="c.py:g", description="C"),
    }
    assert [spec.is_file for spec in loaded.graphs.values()] == [True, False, True]
    assert loaded.dependencies == (".", "./lib", "langchain_openai")
    assert loaded.env == {"KEY": "value", "N": "3", "DEBUG": "true"}
    assert loaded.store.ttl.default_minutes == 3
    assert loaded.warnings == ()


def test_load__without_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, {"graphs": {"a": "a.py:graph"}})
    monkeypatch.chdir(tmp_path)

    assert manifests.load(None).path == tmp_path / "langgraph.json"


def test_load__of_a_link(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    real = written(elsewhere, {"graphs": {"a": "a.py:graph"}})
    link = tmp_path / "langgraph.json"
    link.symlink_to(real)

    assert manifests.load(link).root == tmp_path


def test_load__every_documented_key(tmp_path: Path) -> None:
    keys = [
        "python_version node_version api_version base_image image_distro pip_config_file",
        "pip_installer source dockerfile_lines store checkpointer auth encryption priority http",
        "webhooks ui ui_config keep_pkg_tools",
    ]
    raw = {key: {} for key in " ".join(keys).split()}
    raw["graphs"] = {"a": "a.py:graph"}

    loaded = manifests.load(written(tmp_path, raw))

    assert loaded.raw == raw
    assert loaded.warnings == ()


def test_load__an_unknown_key_is_said(tmp_path: Path) -> None:
    loaded = manifests.load(written(tmp_path, {"graphs": {"a": "a.py:g"}, "dependancies": ["."]}))

    assert loaded.warnings == ('unknown key "dependancies" has no effect',)


def test_load__a_key_without_effect_is_said(tmp_path: Path) -> None:
    raw = {"graphs": {"a": "a.py:g"}, "ui": {"chat": "./chat.tsx"}, "ui_config": {}}

    loaded = manifests.load(written(tmp_path, raw))

    assert loaded.warnings == ('"ui" has no effect in this version',)


def test_load__a_variable_without_effect_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LS_RATE_LIMITS", "1")
    raw = {"graphs": {"a": "a.py:g"}, "env": {"REDIS_CLUSTER": "true", "LOG_LEVEL": "INFO"}}

    loaded = manifests.load(written(tmp_path, raw))

    assert loaded.warnings == (
        "LS_RATE_LIMITS is set, and has no effect here",
        "REDIS_CLUSTER is set, and has no effect here",
    )


def test_load__a_missing_folder_is_said(tmp_path: Path) -> None:
    raw = {"graphs": {"a": "a.py:g"}, "dependencies": ["./nope", "not_a_folder"]}

    loaded = manifests.load(written(tmp_path, raw))

    assert loaded.warnings == ('"dependencies": there is no folder ./nope',)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"graphs": }', ":1:12: bad JSON"),
        ("[]", "must hold a JSON object, not a list"),
        ({}, 'has no graphs: "graphs" takes an object'),
        ({"graphs": {}}, "has no graphs"),
        ({"graphs": ["a.py:graph"]}, '"graphs" takes an object'),
        ({"graphs": {"": "a.py:graph"}}, "a graph id must not be empty"),
        ({"graphs": {"a": 1}}, '"graphs.a" takes "path/to/file.py:variable"'),
        ({"graphs": {"a": {"description": "x"}}}, '"graphs.a.path" takes'),
        ({"graphs": {"a": {"path": "a.py:g", "description": 1}}}, '"graphs.a.description" takes'),
        ({"graphs": {"a": "a.py"}}, '"a.py" names no variable'),
        ({"graphs": {"a": ":graph"}}, '":graph" names no variable'),
        ({"graphs": {"a": "a.py:the graph"}}, '"the graph" cannot be a variable'),
        ({"graphs": {"a": "./agent:graph"}}, '"./agent" is neither a .py file nor a module'),
        ({"graphs": {"a": "./a.ts:graph"}}, "is JavaScript; only Python"),
        ({"graphs": {"a": "./a.mjs"}}, "is JavaScript; only Python"),
        ({"graphs": {"a": "a.py:g"}, "dependencies": "."}, '"dependencies" takes a list'),
        ({"graphs": {"a": "a.py:g"}, "dependencies": [1]}, '"dependencies" takes a list'),
        ({"graphs": {"a": "a.py:g"}, "env": ["X"]}, '"env" takes the path'),
        ({"graphs": {"a": "a.py:g"}, "env": {"X": None}}, '"env.X" takes a text, not nothing'),
    ],
)
def test_load__nonsense(tmp_path: Path, content: Any, says: str) -> None:
    file = written(tmp_path, content)

    with pytest.raises(ConfigError) as raised:
        manifests.load(file)

    assert str(file) in str(raised.value)
    assert says in str(raised.value)


def test_load__no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"langgraph\.json: no such file.*TRELLIS_CONFIG"):
        manifests.load(tmp_path)


def test_load__bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "langgraph.json").write_bytes(b"\xff\xfe{")

    with pytest.raises(ConfigError, match="cannot be read"):
        manifests.load(tmp_path)


def test_load__env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n")

    loaded = manifests.load(written(tmp_path, {"graphs": {"a": "a.py:g"}, "env": ".env"}))

    assert loaded.env == {"A": "1"}


def test_load__env_file_is_missing(tmp_path: Path) -> None:
    loaded = manifests.load(written(tmp_path, {"graphs": {"a": "a.py:g"}, "env": ".env"}))

    assert loaded.env == {}
    assert loaded.warnings == ('"env": there is no file .env; no variable was taken from it',)


def test_load__env_file_makes_no_sense(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("A=1\n\nthis is no line\n")
    file = written(tmp_path, {"graphs": {"a": "a.py:g"}, "env": ".env"})

    with pytest.raises(ConfigError, match=r'"env": .*\.env:3: expected NAME=value'):
        manifests.load(file)


def test_apply_env__what_is_set_wins(tmp_path: Path) -> None:
    raw = {"graphs": {"a": "a.py:g"}, "env": {"SET": "file", "UNSET": "file"}}
    environ = {"SET": "platform"}

    manifests.apply_env(manifests.load(written(tmp_path, raw)), environ)

    assert environ == {"SET": "platform", "UNSET": "file"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("A=1", {"A": "1"}),
        ("A = 1 \nB=2", {"A": "1", "B": "2"}),
        ("export A=1", {"A": "1"}),
        ("# a comment\n\n  # another\nA=1", {"A": "1"}),
        ("A=1 # why\nB=a#b\nC= # nothing yet", {"A": "1", "B": "a#b", "C": ""}),
        ("A=\nB=''\nC=\"\"", {"A": "", "B": "", "C": ""}),
        ("A='single # not a comment'", {"A": "single # not a comment"}),
        ('A="double # not a comment" # a comment', {"A": "double # not a comment"}),
        (r'A="tab\tnew\nquote\" back\\ other\d"', {"A": 'tab\tnew\nquote" back\\ other\\d'}),
        (r"A='it\'s \n raw'", {"A": r"it's \n raw"}),
        ('A="-----BEGIN\nline\n-----END"\nB=2', {"A": "-----BEGIN\nline\n-----END", "B": "2"}),
        ("A=x=y&z", {"A": "x=y&z"}),
        ("A=C:\\new\\table", {"A": "C:\\new\\table"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A=1\nB=${A}/b\nC=\"${B}\"\nD='${A}'", {"A": "1", "B": "1/b", "C": "1/b", "D": "${A}"}),
        ("A=${NOPE:-spare}${NOPE}", {"A": "spare"}),
        ("A=${HOST}", {"A": "of the environment"}),
        ("HOST=own\nA=${HOST}", {"HOST": "own", "A": "of the environment"}),
        (r'A="\${HOST} $HOST"', {"A": "${HOST} $HOST"}),
        ("ALONE\nexport ALONE2\nA=1", {"A": "1"}),
        ("", {}),
    ],
)
def test_parse_env(text: str, values: dict[str, str]) -> None:
    assert manifests.parse_env(text, environ={"HOST": "of the environment"}) == values


@pytest.mark.parametrize(
    ("text", "line"),
    [("A=1\n=2", 2), ('A="open\nB=2', 1), ("A='one' two", 1), ("A: 1", 1), ("\n\n1A=x", 3)],
)
def test_parse_env__nonsense(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=f"^{line}: expected NAME=value"):
        manifests.parse_env(text, environ={})


def test_load__leaves_the_environment_alone(tmp_path: Path) -> None:
    before = dict(os.environ)

    manifests.load(written(tmp_path, {"graphs": {"a": "a.py:g"}, "env": {"NEW_ONE": "1"}}))

    assert dict(os.environ) == before


@pytest.mark.parametrize("where", ["environment", "langgraph.json"])
def test_load__encryption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    raw: dict[str, Any] = {"graphs": {"a": "a.py:graph"}}
    if where == "environment":
        monkeypatch.setenv("LANGGRAPH_AES_KEY", "0123456789abcdef")
    else:
        raw["env"] = {"LANGGRAPH_AES_KEY": "0123456789abcdef"}

    found = manifests.load(written(tmp_path, raw))

    assert found.encryption.keys == (b"0123456789abcdef",)


def test_load__encryption_of_ones_own(tmp_path: Path) -> None:
    raw: dict[str, Any] = {"graphs": {"a": "a.py:graph"}, "encryption": {"path": "./e.py:mine"}}

    assert manifests.load(written(tmp_path, raw)).encryption.path == "./e.py:mine"
    raw["encryption"] = {"path": "./e.py"}
    with pytest.raises(ConfigError, match=r'"encryption.path"'):
        manifests.load(written(tmp_path, raw))
