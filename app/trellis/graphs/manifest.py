"""Reads langgraph.json, and the .env file it names."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trellis.domain.checkpointer import CheckpointerSettings
from trellis.domain.encryption import Encryption
from trellis.domain.http import HttpConfig
from trellis.domain.store import StoreSettings
from trellis.domain.ttl import ThreadTtl
from trellis.domain.webhooks import Webhooks
from trellis.errors import ConfigError
from trellis.graphs import auth, checkpointers, encryption, http, stores, ttl, webhooks
from trellis.graphs.auth import AuthConfig
from trellis.graphs.options import checked
from trellis.settings import without_effect

FILE_NAME = "langgraph.json"

#: Every key a langgraph.json may have. Another one is kept too, but said: it may be a typo.
KNOWN_KEYS = frozenset(
    {
        "$schema",
        "api_version",
        "auth",
        "base_image",
        "checkpointer",
        "dependencies",
        "dockerfile_lines",
        "encryption",
        "env",
        "graphs",
        "http",
        "image_distro",
        "keep_pkg_tools",
        "node_version",
        "pip_config_file",
        "pip_installer",
        "priority",
        "python_version",
        "source",
        "store",
        "ui",
        "ui_config",
        "webhooks",
    }
)

#: Known, but nothing in this version does what they ask for.
_WITHOUT_EFFECT = ("ui", "ui_config")
_JAVASCRIPT = (".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs")
_TARGET = '"path/to/file.py:variable" or "module.name:variable"'


@dataclass(frozen=True, kw_only=True, slots=True)
class GraphSpec:
    """One entry of `graphs`: where a graph is, not yet imported."""

    graph_id: str
    target: str  #: as written: "path/to/file.py:variable" or "module.name:variable"
    description: str | None = None

    @property
    def source(self) -> str:
        return self.target.rpartition(":")[0]

    @property
    def variable(self) -> str:
        return self.target.rpartition(":")[2]

    @property
    def is_file(self) -> bool:
        return self.source.endswith(".py")


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """A langgraph.json that makes sense; whether its graphs can be imported is another question."""

    path: Path
    root: Path  #: its folder; paths in it are relative to this one
    graphs: Mapping[str, GraphSpec]
    dependencies: tuple[str, ...]
    env: Mapping[str, str]
    raw: Mapping[str, Any]
    webhooks: Webhooks = field(default_factory=Webhooks)
    auth: AuthConfig = field(default_factory=AuthConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    thread_ttl: ThreadTtl = field(default_factory=ThreadTtl)
    store: StoreSettings = field(default_factory=StoreSettings)
    checkpointer: CheckpointerSettings = field(default_factory=CheckpointerSettings)
    priority: str | None = None  #: where the hook is that decides the priority of threads
    encryption: Encryption = field(default_factory=Encryption)
    warnings: tuple[str, ...] = ()

    @property
    def has_plugs(self) -> bool:
        """Whether a store or a checkpointer of the operator's own is to be opened."""
        return self.store.path is not None or self.checkpointer.path is not None


def load(path: Path | None = None) -> Manifest:
    """
    Read a langgraph.json. None means the one in the current folder, a folder means the one in it.

    :raises ConfigError: names the file, the key, and what it takes.
    """
    # Not resolve(): where the file is a link (a mounted ConfigMap), its graphs lie beside the link.
    path = Path(os.path.abspath((path or Path(FILE_NAME)).expanduser()))
    if path.is_dir():
        path = path / FILE_NAME
    raw = _read(path)
    env, warnings = _env(path, raw.get("env"))
    environ = {**env, **os.environ}
    dependencies = _dependencies(path, raw.get("dependencies"))
    at_rest = _encryption(path, raw.get("encryption"), environ)
    return Manifest(
        path=path,
        root=path.parent,
        graphs=_graphs(path, raw.get("graphs")),
        dependencies=dependencies,
        env=env,
        raw=raw,
        auth=_auth(path, raw.get("auth")),
        http=_http(path, raw.get("http"), environ),
        webhooks=webhooks.parse(
            str(path), raw.get("webhooks"), http=raw.get("http"), environ=environ
        ),
        thread_ttl=ttl.parse(str(path), raw.get("checkpointer")),
        store=_store(path, raw.get("store")),
        checkpointer=_checkpointer(path, raw.get("checkpointer"), encryption=at_rest),
        priority=_priority(path, raw.get("priority")),
        encryption=at_rest,
        warnings=(
            *warnings,
            *_missing_folders(path.parent, dependencies),
            *_idle_keys(raw),
            *(f"{name} is set, and has no effect here" for name in without_effect(environ)),
        ),
    )


def _encryption(path: Path, raw: object, environ: Mapping[str, str]) -> Encryption:
    found = encryption.parse(str(path), raw, environ=environ)
    if found.path is not None:
        _check_target(f'{path}: "encryption.path"', found.path)
    return found


def _auth(path: Path, raw: object) -> AuthConfig:
    found = auth.parse(str(path), raw)
    if found.path is not None:
        _check_target(f'{path}: "auth.path"', found.path)
    return found


def _http(path: Path, raw: object, environ: Mapping[str, str]) -> HttpConfig:
    found = http.parse(str(path), raw, environ=environ)
    if found.app is not None:
        _check_target(f'{path}: "http.app"', found.app)
    return found


def _store(path: Path, raw: object) -> StoreSettings:
    found = stores.parse(str(path), raw)
    if found.path is not None:
        _check_target(f'{path}: "store.path"', found.path)
    return found


def _checkpointer(path: Path, raw: object, *, encryption: Encryption) -> CheckpointerSettings:
    found = checkpointers.parse(str(path), raw)
    if found.path is None:
        return found
    _check_target(f'{path}: "checkpointer.path"', found.path)
    if encryption.keys or encryption.path:
        raise ConfigError(
            f'{path}: "checkpointer.path" and encryption (LANGGRAPH_AES_KEY, or "encryption.path"): what a '
            "checkpointer of your own keeps would not be encrypted. Encrypt it there, and leave the other out"
        )
    return found


def _priority(path: Path, raw: object) -> str | None:
    takes = (f"a text: {_TARGET}", lambda value: isinstance(value, str))
    found: str | None = checked(f'{path}: "priority"', raw, {"path": takes}).get("path")
    if found is not None:
        _check_target(f'{path}: "priority.path"', found)
    return found


def apply_env(manifest: Manifest, environ: MutableMapping[str, str] = os.environ) -> None:
    """Set the manifest's variables where the environment has none: what is set already wins."""
    for name, value in manifest.env.items():
        environ.setdefault(name, value)


def _read(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file. Give the path of your {FILE_NAME} with --config or TRELLIS_CONFIG"
        ) from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{error.lineno}:{error.colno}: bad JSON: {error.msg}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: must hold a JSON object, not {_kind(raw)}")
    return raw


def _graphs(path: Path, raw: object) -> dict[str, GraphSpec]:
    takes = f'"graphs" takes an object {{"graph id": {_TARGET}}}'
    if raw is None:
        raise ConfigError(f"{path}: has no graphs: {takes}")
    if not isinstance(raw, dict):
        raise ConfigError(f"{path}: {takes}, not {_kind(raw)}")
    if not raw:
        raise ConfigError(f"{path}: has no graphs: {takes} with at least one entry")
    return {graph_id: _graph(path, graph_id, value) for graph_id, value in raw.items()}


def _graph(path: Path, graph_id: str, value: object) -> GraphSpec:
    key = f'{path}: "graphs.{graph_id}"'
    if not graph_id.strip():
        raise ConfigError(f'{path}: "graphs": a graph id must not be empty')
    target, description = value, None
    if isinstance(value, dict):
        target, description = value.get("path"), value.get("description")
        key = f'{path}: "graphs.{graph_id}.path"'
    if not isinstance(target, str):
        raise ConfigError(f"{key} takes {_TARGET}, not {_kind(target)}")
    if description is not None and not isinstance(description, str):
        raise ConfigError(
            f'{path}: "graphs.{graph_id}.description" takes a text, not {_kind(description)}'
        )
    _check_target(key, target)
    return GraphSpec(graph_id=graph_id, target=target, description=description)


def _check_target(key: str, target: str) -> None:
    source, colon, variable = target.rpartition(":")
    if source.endswith(_JAVASCRIPT) or target.endswith(_JAVASCRIPT):
        raise ConfigError(f'{key}: "{target}" is JavaScript; only Python graphs can be served')
    if not colon or not source:
        raise ConfigError(f'{key} takes {_TARGET}; "{target}" names no variable')
    if not variable.isidentifier():
        raise ConfigError(f'{key} takes {_TARGET}; "{variable}" cannot be a variable')
    is_module = all(part.isidentifier() for part in source.split("."))
    if not source.endswith(".py") and not is_module:
        raise ConfigError(f'{key} takes {_TARGET}; "{source}" is neither a .py file nor a module')


def _dependencies(path: Path, raw: object) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(each, str) for each in raw):
        raise ConfigError(f'{path}: "dependencies" takes a list of folders and package names')
    return tuple(raw)


def _missing_folders(root: Path, dependencies: tuple[str, ...]) -> list[str]:
    return [
        f'"dependencies": there is no folder {each}'
        for each in dependencies
        if each.startswith((".", "/")) and not (root / each).is_dir()
    ]


def _idle_keys(raw: Mapping[str, Any]) -> list[str]:
    return [
        *(f'unknown key "{key}" has no effect' for key in raw if key not in KNOWN_KEYS),
        *(f'"{key}" has no effect in this version' for key in _WITHOUT_EFFECT if raw.get(key)),
    ]


def _env(path: Path, raw: object) -> tuple[dict[str, str], list[str]]:
    match raw:
        case None:
            return {}, []
        case str():
            return _env_file(path, raw)
        case dict():
            return {name: _env_value(path, name, value) for name, value in raw.items()}, []
    raise ConfigError(
        f'{path}: "env" takes the path of a .env file, or an object of variables, not {_kind(raw)}'
    )


def _env_value(path: Path, name: str, value: object) -> str:
    match value:
        case str():
            return value
        case bool() | int() | float():
            return json.dumps(value)
    raise ConfigError(f'{path}: "env.{name}" takes a text, not {_kind(value)}')


def _env_file(path: Path, name: str) -> tuple[dict[str, str], list[str]]:
    file = path.parent / name
    try:
        text = file.read_text("utf-8-sig")
    except FileNotFoundError:
        # Kept out of git, it is never there in a deployment, where the platform sets the variables.
        return {}, [f'"env": there is no file {name}; no variable was taken from it']
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f'{path}: "env": {name} cannot be read: {error}') from None
    try:
        return parse_env(text, environ=os.environ), []
    except ValueError as error:
        raise ConfigError(f'{path}: "env": {file}:{error}') from None


_NOTHING = re.compile(r"\s*(?:#[^\n]*)?(?:\n|\Z)")
_BINDING = re.compile(
    r"""[ \t]* (?:export[ \t]+)? (?P<name>[A-Za-z_][\w.-]*) [ \t]*
        (?: = (?: [ \t]* '(?P<single> (?: \\['\\] | [^'] )* )' [ \t]* (?:\#[^\n]*)?
                | [ \t]* "(?P<double> (?: \\. | [^"\\] )* )" [ \t]* (?:\#[^\n]*)?
                | (?! [ \t]* ["'] ) (?P<bare> [^\n]* ) ) )?
        (?:\n|\Z)""",
    re.VERBOSE | re.DOTALL,
)
_REFERENCE = re.compile(r"\\(?P<escape>.)|\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "'": "'", "\\": "\\", "$": "$"}


def parse_env(text: str, *, environ: Mapping[str, str]) -> dict[str, str]:
    """
    Read the text of a .env file: comments, `export`, quotes, values of several lines, `${NAME}`.

    A reference finds the environment first, then the lines above it. A name alone sets nothing.

    :raises ValueError: begins with the number of the line that makes no sense.
    """
    text = text.replace("\r\n", "\n")
    values: dict[str, str] = {}
    position = 0
    while position < len(text):
        if nothing := _NOTHING.match(text, position):
            position = nothing.end()
            continue
        binding = _BINDING.match(text, position)
        if binding is None:
            line = text.count("\n", 0, position) + 1
            raise ValueError(f"{line}: expected NAME=value, a comment, or nothing")
        position = binding.end()
        value = _value(binding, {**values, **environ})
        if value is not None:
            values[binding["name"]] = value
    return values


def _value(binding: re.Match[str], known: Mapping[str, str]) -> str | None:
    if (single := binding["single"]) is not None:
        return re.sub(r"\\(['\\])", r"\1", single)
    if (double := binding["double"]) is not None:
        return _expand(double, known, escapes=_ESCAPES)
    if (bare := binding["bare"]) is not None:
        return _expand(re.sub(r"\s#.*", "", bare).strip(), known, escapes={})
    return None


def _expand(text: str, known: Mapping[str, str], *, escapes: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        if match["escape"] is not None:
            return escapes.get(match["escape"], match[0])
        return known.get(match["name"]) or match["default"] or ""

    return _REFERENCE.sub(replace, text)


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case str():
            return "a text"
        case int() | float():
            return "a number"
        case list():
            return "a list"
    return "an object"
